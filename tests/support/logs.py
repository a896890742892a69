"""The messages that Earmark's packages log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(*packages: str) -> Iterator[list[str]]:
    """Collect the messages that some packages log, all three unless named, from level INFO up."""
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
