"""A command run on a Ray cluster."""
