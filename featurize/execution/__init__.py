"""Who runs a plan, and what happens when a process, a node or a disk is lost."""
