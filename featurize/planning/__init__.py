"""Assign each track to a fold and a shard."""
