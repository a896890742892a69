"""Shards to batches on the replicas, in an order that depends only on (seed, epoch)."""
