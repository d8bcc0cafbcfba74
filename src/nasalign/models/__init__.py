"""Loading models, and which rows of which parameter are a head."""
