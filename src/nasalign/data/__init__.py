"""Questions, their yes/no form, prompts with token positions, and judging of answers."""
