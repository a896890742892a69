"""The commands of the command line: arguments, options and exit statuses."""
