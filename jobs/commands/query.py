"""The verbs that ask what there is: how far, how good, what it hears; and take it elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.error_exits import plain_errors
from jobs.commands.options import ConfigFile, Features, Format, Overrides, Workers
from train.export.formats import ExportFormat


def status(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A dataset or a run: a folder or URI given as --out.")
    ],
) -> None:
    """Say how far a dataset or a run is: what is done, what is left, how many rejects and why."""
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.terminal.status import progress_lines

        typer.echo(progress_lines(StoragePath.of(folder)))


def verify(features: Features) -> None:
    """Read a whole dataset back and compare every track with what was written; status 1 if anything differs."""
    with plain_errors():
        from featurize.dataset.dataset import open_dataset
        from featurize.dataset_build.verify import verify as verify_all
        from jobs.terminal.console import ConsoleReporter

        dataset = open_dataset(features)
        problems = ConsoleReporter().verifying(verify_all(dataset), len(dataset.shards))
        if problems:
            typer.echo(
                f"earmark: {len(problems)} things are wrong with {features}:\n"
                + "\n".join(f"  - {problem}" for problem in problems)
                + f"\nDelete the shards named here, then type: earmark featurize MUSIC --out {features}",
                err=True,
            )
            raise typer.Exit(1)
        rows = sum(shard.rows for shard in dataset.shards)
        typer.echo(f"whole: {len(dataset.shards)} shards, {rows} segments, every one as it was written")


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Folders or URIs made by earmark run, train or crossval."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the page goes, with the curves over one another.")
    ] = Path("compare.html"),
) -> None:
    """Put runs side by side: the settings that differ, the figures, the size and the speed."""
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.terminal.console import ConsoleReporter
        from train.report.comparison import read_entries, remarks_on, table_of
        from train.report.comparison_page import render_comparison

        entries = read_entries(runs)
        rows = table_of(entries)
        StoragePath.of(out).write(render_comparison(entries, rows).encode())
        ConsoleReporter().comparison([entry.name for entry in entries], rows)
        for remark in remarks_on(entries):
            typer.echo(remark)
        typer.echo(f"page      {out}")


def predict(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A folder or URI made by earmark run or earmark train.")
    ],
    targets: Annotated[
        list[str],
        typer.Argument(metavar="FILE_OR_FOLDER...", help="What to listen to: audio files, folders of them, URIs."),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many genres of each track, the most probable first.")] = 3,
    form: Annotated[
        Format, typer.Option("--format", help="How: a table for people, JSON for programs, CSV for spreadsheets.")
    ] = Format.table,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Also those of each segment, with its time.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Name the genres of files that a trained model has never heard.

    The answer goes to standard output, all else to standard error. A file that cannot be heard is named with the
    reason, and the rest goes on; status 1 if none could be heard.
    """
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.inference.output_formats import FORMATS
        from jobs.inference.predict import predict as predict_all
        from jobs.terminal.console import ConsoleReporter

        reporter = ConsoleReporter()
        answers = predict_all(StoragePath.of(run), targets, workers, reporter)
        typer.echo(FORMATS[form.value](answers, top, timeline), nl=False)
        for path, reason in answers.rejects:
            reporter.info(f"{path}: {reason}")
        if not answers.tracks:
            raise typer.Exit(1)


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A folder or URI made by earmark run or earmark train.")
    ],
    form: Annotated[ExportFormat, typer.Option("--format", help="For Keras, TensorFlow, LiteRT or ONNX Runtime.")],
    out: Annotated[
        str, typer.Option("--out", metavar="PATH", help="Where the export goes: a file, of savedmodel a folder.")
    ],
    features: Annotated[
        str | None, typer.Option(metavar="FEATURES", help="Where the dataset is, if it has moved.")
    ] = None,
) -> None:
    """Write a trained model for other programs, with its class names and feature settings inside.

    Its outputs are compared with the model's on rows of the dataset; where they differ, nothing is written.
    """
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.inference.export import export_model

        moved = StoragePath.of(features) if features else None
        typer.echo(export_model(StoragePath.of(run), moved, form, out))


def config(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Print the settings that --config and --set come to, with a comment on each."""
    with plain_errors():
        from jobs.config import load_config, to_yaml

        typer.echo(to_yaml(load_config(config, overrides or [])), nl=False)


def doctor() -> None:
    """Check what this machine can do, up to a full run on ten tones; status 1 if anything is broken."""
    with plain_errors(kept=""):
        from jobs.doctor.doctor import check_all

        broken = 0
        for finding in check_all():
            typer.echo(finding)
            broken += finding.state == "broken"
        if broken:
            raise typer.Exit(1)
