"""NAS: Eq. 1 and its recorder, attention scores, and head selection."""
