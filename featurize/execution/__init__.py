"""Running plans in Ray tasks or a child process, with retries when a process, a node or a disk is lost."""
