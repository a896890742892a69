"""Earmark's version, in the code: the nodes of a cluster are sent code, and have no package of that name."""

VERSION = "0.1.0"
