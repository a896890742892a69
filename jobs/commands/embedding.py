"""The command `embed`."""

from typing import Annotated

import typer

from featurize.display import one_line
from jobs.commands.error_exits import plain_errors
from jobs.commands.options import TrainedRun, TrustCode, Workers
from jobs.terminal.console import echo


def embed(
    run: TrainedRun,
    targets: Annotated[
        list[str],
        typer.Argument(metavar="FILE_OR_FOLDER...", help="Audio files, folders of audio files, or URIs."),
    ],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Output Parquet file, a path or a URI.")],
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="Layer of the model. By default the last hidden one."),
    ] = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="Write a row for each segment, not the mean of each track.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Set featurize.max_seconds or featurize.track_timeout, the limits of one file. May be repeated.",
        ),
    ] = None,
    workers: Workers = None,
    trust_code: TrustCode = False,
) -> None:
    """Write the embeddings of audio files, the values of a hidden layer of a trained model, as Parquet.

    A file that cannot be decoded is named with the reason, and has no row.
    The exit status is 1 if no file could be read.
    """
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.commands.output_file import output_file
        from jobs.inference.embed import embed as embed_all
        from jobs.inference.predict import prediction_limits
        from jobs.terminal.console import ConsoleReporter

        place, limits = output_file(out, "embeddings.parquet"), prediction_limits(overrides or [])
        reporter = ConsoleReporter()
        count, what = embed_all(
            StoragePath.of(run), targets, place, layer, segments, workers, reporter, limits, trust_code
        )
        shown = place if place.scheme else one_line(out)
        echo(f"embedded  {count} tracks, {what}\nfile      {shown}")
