"""The model card of an export, in the hub's format."""

from nasalign.reporting.card.card import ADAPTERS, FILE, GGUF, SCORED, Form, model_card
from nasalign.reporting.card.scores import ScoreFacts, score_texts

__all__ = ["ADAPTERS", "FILE", "GGUF", "SCORED", "Form", "ScoreFacts", "model_card", "score_texts"]
