"""How a command ends that cannot continue: one sentence on standard error, and an exit status."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from jobs.terminal.console import echo
from jobs.terminal.signals import stopped_by_signals

KEPT = "What was finished is kept: the same command continues from there."


@contextmanager
def plain_errors(kept: str = KEPT) -> Iterator[None]:
    """Turn a signal, or an error that a user can fix, into a sentence and an exit status.

    The status is that of the `EarmarkError`: 1, 2 for settings, 128 + signal (130 for Ctrl-C, 143 for SIGTERM).

    Args:
        kept: Sentence on what remains after an interruption.
    """
    sentence = f"Stopped. {kept}".strip()
    with stopped_by_signals(sentence) as arrived:
        try:
            yield
        except KeyboardInterrupt:
            echo(sentence, err=True)
            raise typer.Exit(130) from None
        except SystemExit:
            if (signum := arrived()) is not None:
                # Ray, if it was being waited for, has replaced our status by another one.
                raise SystemExit(128 + signum) from None
            # Ray's handler, which replaces ours while Ray starts, has raised this.
            echo(sentence, err=True)
            raise SystemExit(143) from None
        except Exception as error:
            if (signum := arrived()) is not None:  # a library turned the stop into its own error
                raise SystemExit(128 + signum) from error
            if (status := _explain(error, kept)) is None:
                raise
            raise typer.Exit(status) from None


def _explain(error: Exception, kept: str) -> int | None:
    """Write what a user can fix, and return the exit status; None for any other error."""
    from featurize.errors import EarmarkError
    from featurize.storage import describe
    from jobs.errors import Interrupted

    if isinstance(error, Interrupted):
        echo(f"Stopped: {error}. The same command continues from there.", err=True)
    elif isinstance(error, OSError):
        echo(f"earmark: {describe(error)}. {kept}".strip(), err=True)
    elif isinstance(error, EarmarkError):
        echo(f"earmark: {error}", err=True)
    else:
        return None
    return error.exit_status if isinstance(error, EarmarkError) else 1
