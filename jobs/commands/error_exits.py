"""How a command ends that cannot continue: one sentence on standard error, and an exit status."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

KEPT = "What was finished is kept: the same command continues from there."


@contextmanager
def plain_errors(kept: str = KEPT) -> Iterator[None]:
    """Turn an error that a user can fix into a sentence and an exit status.

    The status is that of the `EarmarkError`: 1, 2 for settings, 128 + signal (130 for Ctrl-C, 143 for SIGTERM).

    Args:
        kept: Sentence on what remains after an interruption.
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
        from featurize.errors import EarmarkError
        from featurize.storage import describe
        from jobs.errors import Interrupted

        if isinstance(error, Interrupted):
            typer.echo(f"Stopped: {error}. The same command continues from there.", err=True)
        elif isinstance(error, OSError):
            typer.echo(f"earmark: {describe(error)}. {kept}".strip(), err=True)
        elif isinstance(error, EarmarkError):
            typer.echo(f"earmark: {error}", err=True)
        else:
            raise
        raise typer.Exit(error.exit_status if isinstance(error, EarmarkError) else 1) from None
