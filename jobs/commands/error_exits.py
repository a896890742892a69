"""How a verb ends that cannot go on: a sentence on standard error, and a status."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

KEPT = "What was finished is kept: the same command goes on from there."


@contextmanager
def plain_errors(kept: str = KEPT) -> Iterator[None]:
    """Turn what a user can mend into a sentence and an exit status: 1, 2 for settings, 130 for Ctrl-C.

    Args:
        kept: what there is to say of an end in the middle.
    """
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped. {kept}".strip(), err=True)
        raise typer.Exit(130) from None
    except SystemExit:  # at SIGTERM
        typer.echo(f"Stopped. {kept}".strip(), err=True)
        raise
    except Exception as error:
        from featurize.errors import FeaturizeError
        from featurize.storage import describe
        from jobs.config import ConfigError
        from jobs.terminal.signals import Interrupted
        from train.config import TrainError

        if isinstance(error, Interrupted):
            typer.echo(f"Stopped: {error}. The same command goes on from there.", err=True)
            raise typer.Exit(128 + error.signum) from None
        if isinstance(error, OSError):
            typer.echo(f"earmark: {describe(error)}. {kept}".strip(), err=True)
        elif isinstance(error, FeaturizeError | ConfigError | TrainError):
            typer.echo(f"earmark: {error}", err=True)
        else:
            raise
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end what runs inside as cleanly as Ctrl-C does, with status 143."""
    came: list[int] = []

    def terminate(signum: int, frame: object) -> None:
        came.append(signum)
        sys.exit(128 + signum)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except SystemExit as end:
        if came:  # Ray, where it was waited for, makes a status of its own of ours
            sys.exit(128 + came[0])
        if end.code == signal.SIGTERM:  # by a handler of Ray's, which is in the place of this one while Ray starts
            terminate(signal.SIGTERM, None)
        raise
