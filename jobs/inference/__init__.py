"""Predict genres of new files with a trained model, and export the model for other programs."""
