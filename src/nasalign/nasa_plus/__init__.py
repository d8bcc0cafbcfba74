"""nasa+: all chosen heads tuned together on right and wrong answers."""
