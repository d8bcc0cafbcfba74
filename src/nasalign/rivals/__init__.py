"""Other ways to a model that says Yes as often as it should, to stand beside ours in one table."""
