"""Metrics and evaluation before and after."""
