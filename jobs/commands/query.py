"""The commands that read: progress, comparisons, settings, this machine; and `export`."""

import dataclasses
from typing import Annotated

import typer

from featurize.display import one_line
from jobs.commands.error_exits import plain_errors
from jobs.commands.options import ConfigFile, Json, MovedFeatures, Overrides, TrainedRun, TrustCode
from jobs.terminal.console import echo, echo_json
from train.export.formats import ExportFormat


def status(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="Folder or URI of a dataset, run, cross-validation, search or answers, as given to --out.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show the progress of a dataset, run, cross-validation, search or answers: what is done and what is left."""
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.terminal.status import progress_lines, progress_record

        path = StoragePath.of(folder)
        if as_json:
            echo_json(progress_record(path))
        else:
            echo(progress_lines(path))


def verify(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="Folder or URI of a dataset, or of answers of earmark predict.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Verify a dataset or answers: read everything and compare it with its checksums.

    The exit status is 1 if anything differs; the damaged shards are listed.
    """
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.terminal.console import ConsoleReporter
        from jobs.terminal.verification import verify_folder

        place = StoragePath.of(folder)
        found = verify_folder(place, ConsoleReporter())
        if as_json:
            echo_json({"folder": str(place), **dataclasses.asdict(found)})
        elif found.problems:
            echo(
                f"earmark: {len(found.problems)} problems found in {place}:\n"
                + "\n".join(f"  - {problem}" for problem in found.problems)
                + f"\nDelete the shards listed above, then type: {found.repair}",
                err=True,
            )
        else:
            echo(f"verified  {found.shards} shards, {found.rows} {found.unit}: no differences")
        if found.problems:
            raise typer.Exit(1)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Folders or URIs of runs made by earmark run, train or crossval."),
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Output HTML page, with the training curves in one plot.")
    ] = "compare.html",
    as_json: Json = False,
) -> None:
    """Compare runs side by side: settings that differ, scores with confidence intervals, model size and speed.

    Each run is also compared with the first, track by track: how their scores differ, and on which tracks.
    """
    with plain_errors(kept=""):
        from jobs.commands.output_file import output_file
        from jobs.terminal.console import ConsoleReporter
        from train.report.comparison import read_entries, remarks_on, table_of
        from train.report.comparison_page import render_comparison
        from train.report.comparison_record import comparison_record
        from train.report.paired import compare_with_first

        page, entries = output_file(out, "compare.html"), read_entries(runs)
        rows = table_of(entries)
        pairs, unknown = compare_with_first([entry.runs for entry in entries])
        remarks = [*remarks_on(entries), *unknown]
        page.write(render_comparison(entries, rows, pairs, remarks, page.parent).encode())
        if as_json:
            echo_json({**comparison_record(entries, rows, pairs, remarks), "page": str(page)})
            return
        ConsoleReporter().comparison([entry.name for entry in entries], rows)
        for remark in [*(pair.sentence for pair in pairs), *remarks]:
            echo(remark)
        echo(f"page      {page if page.scheme else one_line(out)}")


def card(
    run: TrainedRun,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Output file, such as README.md. Default: print.")
    ] = None,
    features: MovedFeatures = None,
) -> None:
    """Write a model card of an evaluated run: Markdown with the metadata that Hugging Face reads.

    It has the classes, the training data, the scores with their uncertainty, the settings, limitations and
    provenance, and no paths. Read it before you publish it, add a license, and correct what is not true of your
    model.
    """
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.commands.output_file import output_file
        from jobs.moved_dataset import open_dataset_of
        from train.report.model_card import write_model_card
        from train.run import Run

        file = output_file(out, "README.md") if out is not None else None
        trained = Run(StoragePath.of(run))
        dataset = open_dataset_of(trained, StoragePath.of(features) if features is not None else None)
        text = write_model_card(trained, dataset)
        if file is None:
            echo(text, nl=False)
            return
        file.write(text.encode())
        echo(f"card      {file if file.scheme else one_line(str(out))}")


def labels(
    folds: Annotated[
        str, typer.Argument(metavar="FOLDS", help="Folder or URI of a cross-validation, made by earmark crossval.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Output HTML page, with players and a corrected table.")
    ] = "labels.html",
    features: MovedFeatures = None,
) -> None:
    """Find tracks whose label is probably wrong, copies of one recording, and outliers.

    A cross-validation predicts each track by a model that was not trained on it; its predictions are reused, and
    nothing is trained. The music and the labels are not changed.
    """
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.commands.output_file import output_file
        from jobs.label_review import describe_review, review_labels
        from train.report.labels_page import render_labels

        page, moved = output_file(out, "labels.html"), StoragePath.of(features) if features is not None else None
        review, dataset = review_labels(StoragePath.of(folds), moved)
        page.write(render_labels(review, dataset, page.parent, folds).encode())
        echo(describe_review(review))
        echo(f"page      {page if page.scheme else one_line(out)}")


def export(
    run: TrainedRun,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="Format: for Keras, TensorFlow, LiteRT or ONNX Runtime.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="PATH", help="Output file; for savedmodel an output folder.")
    ],
    features: MovedFeatures = None,
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


def doctor(as_json: Json = False) -> None:
    """Test this machine: versions, memory, decoders, GPUs, and a complete run on ten synthetic tones.

    Each line is ok, remark or broken, with what to do. The exit status is 1 if anything is broken.
    """
    with plain_errors(kept=""):
        from jobs.doctor.doctor import check_all

        findings = []
        for finding in check_all():
            findings.append(finding)
            if not as_json:
                echo(finding)
        if as_json:
            echo_json({"findings": [dataclasses.asdict(finding) for finding in findings]})
        if any(finding.state == "broken" for finding in findings):
            raise typer.Exit(1)
