"""The same questions as a task of lm-evaluation-harness: written, and run on a model in memory."""
