"""A collection becomes a dataset. Not called `build`: git, ruff and others pass over folders of that name."""
