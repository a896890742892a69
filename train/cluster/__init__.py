"""Training on the nodes of a Ray cluster, through Ray Train."""
