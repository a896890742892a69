"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_MUSIC_HELP = (
    "Music collection: a folder with one subfolder per class, a CSV, Parquet or JSON-lines table of paths and "
    "labels, a folder with the files of a published dataset, or the manifest.json of an S3 Inventory. A path or a "
    "URI (s3://, gs://, hdfs://)."
)
Music = Annotated[str, typer.Argument(metavar="MUSIC", help=_MUSIC_HELP)]
Features = Annotated[
    str, typer.Argument(metavar="FEATURES", help="Folder or URI of a dataset made by earmark featurize.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file of settings; earmark config prints them all."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Set one setting, overriding --config. May be repeated.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, max=4096, help="Number of featurizing processes. Default: one per core.")
]

AllowedBuckets = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-bucket",
        metavar="NAME",
        help="Bucket, besides its own, that a table of tracks may name files in. May be repeated.",
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="Layout of the collection, if it is not recognized: folders, fma, gtzan, jamendo, magnatagatune, "
        "huggingface or mirdata:DATASET.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="ROLE=COLUMN,...",
        help="Columns of the table for path, label, group, split and fold, if they are not found by their names. "
        "ROLE= uses none.",
    ),
]
RetryRejects = Annotated[bool, typer.Option("--retry-rejects", help="Retry the tracks that were rejected before.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, for programs.")]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Execute the Python file in RUN that defines layers of its model; only if you know who wrote it.",
    ),
]
TrainedRun = Annotated[
    str, typer.Argument(metavar="RUN", help="Folder or URI of a run made by earmark run or earmark train.")
]
MovedFeatures = Annotated[
    str | None,
    typer.Option("--features", metavar="FEATURES", help="Folder or URI of the dataset, if it has moved."),
]
Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="mlflow[:URI]",
        help="Also record settings, metrics and the report on an MLflow tracking server. Default of URI: "
        "MLFLOW_TRACKING_URI.",
    ),
]
RunFolder = Annotated[str, typer.Option("--out", metavar="RUN", help="Output folder or URI of the run.")]


class Format(StrEnum):
    """Output formats of `predict`."""

    table = "table"
    json = "json"
    csv = "csv"
