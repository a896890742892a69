"""The command line: its verbs, and how it begins.

What a verb needs is imported inside it, so that help is there at once.
"""

import typer

from jobs.commands import build, query
from jobs.commands.error_exits import terminable

app = typer.Typer(
    help="Learn to tell music genres by ear: from a folder of labelled music to a trained classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (
    build.run,
    build.featurize,
    build.train,
    build.crossval,
    build.submit,
    query.status,
    query.verify,
    build.evaluate,
    query.compare,
    query.predict,
    query.export,
    query.config,
    query.check,
    build.demo,
):
    app.command()(verb)


def main() -> None:
    """Run a verb; SIGTERM ends it as cleanly as Ctrl-C does."""
    with terminable():
        app()


if __name__ == "__main__":
    main()
