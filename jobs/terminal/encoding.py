"""Names of files are UTF-8 in every locale, and output that a terminal cannot encode is escaped.

In the locale C, with Python's UTF-8 mode switched off, file names would be read as ASCII, and the same collection
would get another plan. A standard output that is not UTF-8 would end the command at the first accent.
"""

import codecs
import os
import sys

from featurize.display import escape_json

_ESCAPE = "earmark.escape"


def use_utf8() -> None:
    """Start this process again in UTF-8 mode if Python decodes file names otherwise; output keeps its encoding."""
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode or not sys.executable:
        return
    if sys.stdout:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.environ["PYTHONUTF8"] = "1"  # for child processes
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def escape_unencodable() -> None:
    r"""Let standard output show what it cannot encode as `\u00e9`, which is also an escape of JSON."""
    codecs.register_error(_ESCAPE, _escape)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=_ESCAPE)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return escape_json(error.object[error.start : error.end]), error.end
