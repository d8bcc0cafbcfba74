"""The stages of ``gpu_check.py``: each yields plain records, one as soon as it is known."""
