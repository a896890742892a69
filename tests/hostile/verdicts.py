"""What may become of a file."""

Verdict = tuple[str, str] | None
# A relative path, what to write there, and what must become of it.
Entry = tuple[str, bytes, Verdict]

ROWS: Verdict = None
MISSING = ("open", "missing")
EMPTY = ("open", "empty")
UNDECODABLE = ("decode", "not decodable")
NEEDS_PYAV = ("decode", "needs PyAV")
SHORT = ("check", "too short")
SILENT = ("check", "silent")
NOT_FINITE = ("check", "not finite")
LONG = ("check", "too long")
