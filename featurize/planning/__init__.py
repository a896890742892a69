"""Which fold and which shard each track goes to."""
