"""Synthesize a small music collection and run the whole pipeline on it."""
