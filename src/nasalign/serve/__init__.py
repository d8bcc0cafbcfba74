"""A page at which the untouched model and the aligned one are asked side by side."""
