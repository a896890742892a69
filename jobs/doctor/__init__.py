"""Checks of this machine: versions, resources, cluster, decoders and a run of the whole pipeline."""
