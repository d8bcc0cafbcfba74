"""Adapters: applying and reverting them, their files, ranks and rounding."""
