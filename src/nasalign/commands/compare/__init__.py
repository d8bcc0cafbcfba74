"""Comparing ways to a model that says Yes as often as it should, on the same data."""

from nasalign.commands.compare.comparison_job import compare_job

__all__ = ["compare_job"]
