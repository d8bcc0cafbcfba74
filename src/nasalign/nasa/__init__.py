"""NASA: the probing set, Algorithm 1, and the stages around it."""
