"""Running a model: batches, forward passes, generation, scoring and verdicts."""
