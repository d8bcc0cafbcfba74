"""Comparing ways to a model that says Yes as often as it should, on the same data."""

from nasalign.jobs.compare.job import compare_job

__all__ = ["compare_job"]
