"""The evaluated questions as a task of lm-evaluation-harness."""
