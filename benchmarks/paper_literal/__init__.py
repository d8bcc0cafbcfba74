"""The paper computed literally, for ``paper_check.py``; nothing of nasalign is imported here."""
