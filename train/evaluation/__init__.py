"""How good a model is on tracks that it never learned from, and what it predicts for others."""
