"""Other ways to a model that says Yes as often as it should, for comparison in one table."""
