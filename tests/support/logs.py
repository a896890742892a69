"""Collect the log messages of Earmark's packages."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(*packages: str) -> Iterator[list[str]]:
    """Collect log messages from level INFO up of the named packages, by default of all three."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    collector = Collector()
    loggers = [logging.getLogger(name) for name in packages or ("featurize", "train", "jobs")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(collector)
    try:
        yield messages
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(collector)
            logger.setLevel(level)
