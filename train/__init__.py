"""Parquet shards of features to a model and its evaluation.

`input` turns shards into batches on the replicas, in an order that depends on (seed, epoch) alone; `model` has the
networks and the strategies that they run under; `fit` has the training loop and everything that it writes;
`evaluation` computes metrics and predictions; `report` renders pages; `export` writes the model for other
programs; `cluster` trains on the nodes of a Ray cluster; `run` is the folder that all of it goes to.
"""
