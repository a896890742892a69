"""Verdicts: rows, or the stage and reason of a reject."""

Verdict = tuple[str, str] | None
# Relative path of a file, its content, and the expected verdict.
Entry = tuple[str, bytes, Verdict]

ROWS: Verdict = None
MISSING = ("open", "missing")
EMPTY = ("open", "empty")
UNDECODABLE = ("decode", "not decodable")
SHORT = ("check", "too short")
SILENT = ("check", "silent")
CANCELED = ("check", "channels cancel")
NOT_FINITE = ("check", "not finite")
LONG = ("check", "too long")
