"""The included settings; `earmark demo` reads `quick.yaml` from here."""
