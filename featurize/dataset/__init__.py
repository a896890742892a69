"""The dataset format on disk, and reading it."""
