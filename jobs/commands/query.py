"""The commands that read: progress, comparisons, predictions, settings, this machine; and `export`."""

import logging
from typing import Annotated

import typer

from featurize.display import one_line
from jobs.commands.error_exits import plain_errors
from jobs.commands.options import ConfigFile, Features, Format, Overrides, TrustCode, Workers
from jobs.terminal.console import echo
from train.export.formats import ExportFormat

_log = logging.getLogger(__name__)


def status(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Folder or URI of a dataset or a run, as given to --out.")
    ],
) -> None:
    """Show the progress of a dataset or a run: finished and remaining work, and rejects by reason."""
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.terminal.status import progress_lines

        echo(progress_lines(StoragePath.of(folder)))


def verify(features: Features) -> None:
    """Verify a dataset: read every track and compare it with its checksum.

    The exit status is 1 if anything differs; the damaged shards are listed.
    """
    with plain_errors():
        from featurize.dataset.dataset import open_dataset
        from featurize.dataset_build.verify import verify as verify_all
        from jobs.terminal.console import ConsoleReporter

        dataset = open_dataset(features)
        problems = ConsoleReporter().verifying(verify_all(dataset), len(dataset.shards))
        if problems:
            echo(
                f"earmark: {len(problems)} problems found in {dataset.folder}:\n"
                + "\n".join(f"  - {problem}" for problem in problems)
                + "\nDelete the shards listed above, then type: earmark featurize MUSIC "
                f"--out {dataset.folder.quoted}",
                err=True,
            )
            raise typer.Exit(1)
        rows = sum(shard.rows for shard in dataset.shards)
        echo(f"verified  {len(dataset.shards)} shards, {rows} segments: no differences")


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Folders or URIs of runs made by earmark run, train or crossval."),
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Output HTML page, with the training curves in one plot.")
    ] = "compare.html",
) -> None:
    """Compare runs side by side: settings that differ, scores, model size and training speed."""
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.terminal.console import ConsoleReporter
        from train.report.comparison import read_entries, remarks_on, table_of
        from train.report.comparison_page import render_comparison

        page, entries = StoragePath.of(out), read_entries(runs)
        rows = table_of(entries)
        page.write(render_comparison(entries, rows).encode())
        ConsoleReporter().comparison([entry.name for entry in entries], rows)
        for remark in remarks_on(entries):
            echo(remark)
        echo(f"page      {page if page.scheme else one_line(out)}")


def predict(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Folder or URI of a run made by earmark run or earmark train."),
    ],
    targets: Annotated[
        list[str],
        typer.Argument(metavar="FILE_OR_FOLDER...", help="Audio files, folders of audio files, or URIs."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of genres per track, most probable first.")] = 3,
    form: Annotated[
        Format,
        typer.Option("--format", help="Output format: a table to read, JSON for programs, CSV for spreadsheets."),
    ] = Format.table,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Also print the genres of each segment, with its start time.")
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
    """Predict the genres of audio files with a trained model.

    Predictions go to standard output, everything else to standard error.
    A file that cannot be decoded is listed with the reason, and the others are still predicted.
    The exit status is 1 if no file could be predicted.
    """
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.inference.output_formats import FORMATS
        from jobs.inference.predict import predict as predict_all
        from jobs.inference.predict import prediction_limits
        from jobs.terminal.console import ConsoleReporter

        reporter, limits = ConsoleReporter(), prediction_limits(overrides or [])
        answers = predict_all(StoragePath.of(run), targets, workers, reporter, limits, trust_code)
        echo(FORMATS[form.value](answers, top, timeline), nl=False)
        for path, reason in answers.rejects:
            _log.warning("%s: %s", path, reason)
        if not answers.tracks:
            raise typer.Exit(1)


def export(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Folder or URI of a run made by earmark run or earmark train."),
    ],
    form: Annotated[
        ExportFormat, typer.Option("--format", help="Format: for Keras, TensorFlow, LiteRT or ONNX Runtime.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="PATH", help="Output file; for savedmodel an output folder.")
    ],
    features: Annotated[
        str | None, typer.Option(metavar="FEATURES", help="Folder or URI of the dataset, if it has moved.")
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Export a trained model to another format, including its class names and feature settings.

    The outputs of the export are compared with those of the model on segments of the dataset.
    If they differ, nothing is written.
    """
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.inference.export import export_model

        moved = StoragePath.of(features) if features is not None else None
        echo(export_model(StoragePath.of(run), moved, form, out, trust_code))


def config(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Print all settings with a comment on each: the defaults, changed by --config and --set."""
    with plain_errors():
        from jobs.config import load_config, to_yaml

        echo(to_yaml(load_config(config, overrides or [])), nl=False)


def doctor() -> None:
    """Test this machine: versions, memory, decoders, GPUs, and a complete run on ten synthetic tones.

    Each line is ok, remark or broken, with what to do. The exit status is 1 if anything is broken.
    """
    with plain_errors(kept=""):
        from jobs.doctor.doctor import check_all

        broken = 0
        for finding in check_all():
            echo(finding)
            broken += finding.state == "broken"
        if broken:
            raise typer.Exit(1)
