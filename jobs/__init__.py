"""The commands: `cli` has the verbs, `config` their settings, `pipeline` the whole way from music to report."""
