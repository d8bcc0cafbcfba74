"""Whole jobs behind the commands: what to read and load, what to run, what to leave behind."""
