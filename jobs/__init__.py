"""The command line: `cli` registers the commands, `config` reads settings, `pipeline` runs music to report."""
