"""NASA: probing set, Algorithm 1, and the adapter it leaves."""
