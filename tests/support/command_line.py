"""Run the command line in a child process or in this one, and read its output files."""

import contextlib
import logging
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from featurize.storage import StoragePath
from jobs.terminal.log import LOGGERS


def earmark(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a child process."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def earmark_here(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, with the libraries and the Ray that it has: starting them takes seconds.

    What only a separate process shows is not tested: start-up, exit, and output of native libraries. An
    exception that would be printed with its traceback is raised.
    """
    from jobs.commands.app import app

    with contextlib.chdir(cwd or Path.cwd()), _same_logging():
        done = CliRunner().invoke(app, [*map(str, arguments)], prog_name="earmark")
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@contextlib.contextmanager
def _same_logging():
    """Restore how Earmark's packages log, which a command changes."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.propagate, [*logger.handlers]) for logger in loggers]
    try:
        yield
    finally:
        for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate
            logger.handlers = handlers


def contents(folder: Path | str) -> dict[str, bytes]:
    """Return the content of every file below a folder by relative path, without hidden files and `music.json`."""
    path = StoragePath.of(folder)
    names = sorted(name for name, _ in path.files())
    shown = [name for name in names if not name.split("/")[-1].startswith(".") and name != "music.json"]
    return {name: (path / name).read() for name in shown}
