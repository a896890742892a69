"""A trained model applied to other files, or written for other programs."""
