"""Prompts: wordings, scenarios, templates, and the tokens of the answer words."""
