"""Shards to batches on the replicas, in an order that depends on (seed, epoch) alone."""
