"""The command line: its verbs, and how it begins.

What a verb needs is imported inside it, so that help is there at once.
"""

import typer

from jobs import asking, making
from jobs.exits import terminable

app = typer.Typer(
    help="Learn to tell music genres by ear: from a folder of labelled music to a trained classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (
    making.run,
    making.featurize,
    making.train,
    making.crossval,
    making.submit,
    asking.status,
    asking.verify,
    making.evaluate,
    asking.compare,
    asking.predict,
    asking.export,
    asking.config,
    asking.check,
    making.demo,
):
    app.command()(verb)


def main() -> None:
    """Run a verb; SIGTERM ends it as cleanly as Ctrl-C does."""
    with terminable():
        app()


if __name__ == "__main__":
    main()
