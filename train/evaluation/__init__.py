"""Evaluation of a model on tracks that it was not trained on, and its predictions for other tracks."""
