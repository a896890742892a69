"""Layouts in which music datasets are published: which files they have, and what their columns mean."""
