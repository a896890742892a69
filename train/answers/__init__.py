"""Predictions of a model for a whole collection, in Parquet shards: the format, and reading it."""
