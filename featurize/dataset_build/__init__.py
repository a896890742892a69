"""Build a dataset from a collection. Not named `build` because git, ruff and other tools ignore such folders."""
