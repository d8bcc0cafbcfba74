"""The model card of an export, in the hub's format."""

from nasalign.reporting.card.card import FILE, SCORED, Form, model_card
from nasalign.reporting.card.scores import ScoreFacts, score_texts

__all__ = ["FILE", "SCORED", "Form", "ScoreFacts", "model_card", "score_texts"]
