"""Query and key rows of heads as parameters, their optimiser, and activation replay."""
