"""The negative attention score: recording, scoring, head selection."""
