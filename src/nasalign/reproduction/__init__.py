"""Every table and figure of the paper, for another model."""
