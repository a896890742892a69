"""The dataset format on disk, and functions that read it."""
