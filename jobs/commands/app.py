"""The command line: all commands, and the options before them.

Each command imports its libraries inside its function, so that `--help` prints at once.
"""

from typing import Annotated

import typer

from featurize.version import VERSION
from jobs.commands import build, embedding, evaluation, model_selection, prediction, query

app = typer.Typer(
    help="Learn to recognize music genres from audio: from a folder of labeled music to a trained classifier.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"earmark {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Define the options before the command."""


for command in (
    build.run,
    build.featurize,
    build.compact,
    build.train,
    model_selection.crossval,
    model_selection.tune,
    build.submit,
    query.status,
    query.verify,
    evaluation.evaluate,
    evaluation.report,
    query.compare,
    query.labels,
    query.card,
    prediction.predict,
    embedding.embed,
    query.export,
    query.config,
    query.doctor,
    build.demo,
):
    app.command()(command)
