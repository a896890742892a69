"""Parquet shards to a trained model and a report.

`stream` brings shards to TensorFlow in a seeded order that is pure arithmetic; `models` builds the networks;
`steps` holds what one training and one evaluation step do on a replica; `trainer` is the loop around them;
`checkpoints` and `board` are what it writes on the way; `evaluate` turns probabilities into metrics; `report`
draws the page; `run` is the folder that all of it goes into.
"""
