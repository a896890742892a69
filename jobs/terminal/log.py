"""What Earmark's packages log, printed on standard error: with time and level where that is no terminal."""

import logging
import time
from datetime import UTC, datetime

from rich.console import Console

from featurize.display import one_line

LOGGERS = ("featurize", "train", "jobs")


class _ConsoleHandler(logging.Handler):
    """Prints log messages above a running progress bar.

    `rich.logging.RichHandler` is not used: it wraps messages at the width of the console (80 columns in a file),
    and a command that is broken into two lines cannot be copied.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message as one line: names in it may hold line breaks and escape sequences."""
        line = one_line(record.getMessage())
        if not self._console.is_terminal:
            line = stamped(line, record.levelname, record.created)
        self._console.print(line, markup=False, soft_wrap=True)


def stamped(line: str, level: str, created: float | None = None) -> str:
    """Return a line of a log: the time with the offset from UTC, the level, and the line.

    Args:
        line: The line.
        level: Name of the level, such as `INFO`.
        created: Time in seconds since the epoch; None for now.
    """
    moment = datetime.fromtimestamp(time.time() if created is None else created, UTC).astimezone()
    return f"{moment.isoformat(timespec='seconds')} {level:<7} {line}"


def show_log(console: Console | None = None) -> None:
    """Print what Earmark's packages log: on the given console, or on one that writes to standard error."""
    handler = _ConsoleHandler(console or Console(stderr=True, highlight=False, emoji=False))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = [other for other in logger.handlers if not isinstance(other, _ConsoleHandler)]
        logger.addHandler(handler)
        logger.propagate = False  # TensorFlow's logger prints what reaches the root a second time
