"""Which tracks there are: paths, labels and groups, from class folders or from a table."""
