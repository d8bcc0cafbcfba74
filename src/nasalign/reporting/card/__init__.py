"""The model card of an export, in the hub's format."""

from nasalign.reporting.card.card import FILE, Form, model_card

__all__ = ["FILE", "Form", "model_card"]
