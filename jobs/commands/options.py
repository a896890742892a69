"""Arguments and options that several verbs take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_MUSIC_HELP = (
    "A folder whose subfolders are the classes, or a CSV, Parquet or JSON-lines table (path, label); here or "
    "behind a URI (s3://, gs://, hdfs://)."
)
Music = Annotated[str, typer.Argument(metavar="MUSIC", help=_MUSIC_HELP)]
Features = Annotated[str, typer.Argument(metavar="FEATURES", help="A folder or URI made by earmark featurize.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings as YAML; see earmark config.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="One setting, in place of the one in the file. May be repeated.",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that featurize at once. Default: one for each core.")
]

RetryRejects = Annotated[bool, typer.Option("--retry-rejects", help="Try tracks again that were rejected before.")]
RunFolder = Annotated[str, typer.Option("--out", metavar="RUN", help="Where everything goes: a folder or a URI.")]


class Format(StrEnum):
    """How `predict` answers."""

    table = "table"
    json = "json"
    csv = "csv"
