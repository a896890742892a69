"""The training loop, its checkpoints and its TensorBoard files."""
