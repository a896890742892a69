"""The shipped settings; `earmark demo` reads its own from here."""
