"""A small synthesized collection, and the whole pipeline on it."""
