"""Run a command on a Ray cluster."""
