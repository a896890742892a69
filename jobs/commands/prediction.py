"""The command `earmark predict`: to standard output for some files, to a folder of answers for a collection."""

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.commands.error_exits import KEPT, plain_errors
from jobs.commands.options import AllowedBuckets, Columns, Format, RetryRejects, TrainedRun, TrustCode, Workers
from jobs.terminal.console import echo

if TYPE_CHECKING:
    from jobs.inference.batch_prediction import PredictionRequest

_LABELS_SHOWN = 10
_TOP = 3

_log = logging.getLogger(__name__)


def predict(
    run: TrainedRun,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="MUSIC...",
            help="Audio files, folders of audio files, or URIs. With --out: one folder, one table of paths (CSV, "
            "Parquet or JSON lines), or one dataset made by earmark featurize.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="ANSWERS",
            help="Output folder or URI: write Parquet shards instead of printing, for any number of tracks.",
        ),
    ] = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="With --out: a row for each segment instead of each track.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="Number of genres per track, most probable first.")] = _TOP,
    form: Annotated[
        Format,
        typer.Option("--format", help="Output format: a table to read, JSON for programs, CSV for spreadsheets."),
    ] = Format.table,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Mark tracks whose confidence is lower as unsure, such as 0.6.",
        ),
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Also print the genres of each segment, with its start time.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Set featurize.max_seconds or featurize.track_timeout, the limits of one file; with --out also "
            "featurize.tracks_per_shard. May be repeated.",
        ),
    ] = None,
    workers: Workers = None,
    retry_rejects: RetryRejects = False,
    allow_bucket: AllowedBuckets = None,
    columns: Columns = None,
    keep_features: Annotated[
        bool,
        typer.Option(
            "--keep-features",
            help="With --out: write the features too, as a dataset in ANSWERS/features for other models.",
        ),
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Predict the genres of audio files with a trained model.

    Predictions go to standard output, everything else to standard error.
    With --out they go to a folder, together with all columns of the table; after an interruption, run the same
    command again: it continues where it stopped.
    A file that cannot be decoded is listed with the reason, and the others are still predicted.
    The exit status is 1 if no file could be predicted.
    """
    with plain_errors(kept=KEPT if out is not None else ""):
        from jobs.errors import ConfigError
        from jobs.inference.predict import prediction_limits

        limits = prediction_limits(overrides or [], into_folder=out is not None)
        if out is not None:
            from jobs.inference.batch_prediction import PredictionRequest

            if min_confidence is not None:
                raise ConfigError("--min-confidence is printed; with --out, filter the column probability.")
            if form != Format.table:
                raise ConfigError(
                    f"--format {form} is printed; with --out, the answers are Parquet. Leave --out out, and type: "
                    f"--format {form} > FILE"
                )
            if top != _TOP:
                raise ConfigError("--top is printed; with --out, the column probabilities has all classes.")
            if timeline:
                raise ConfigError("--timeline is printed; with --out, a row for each segment is --segments.")
            request = PredictionRequest(
                workers,
                segments,
                retry_rejects,
                limits,
                allow_bucket or [],
                columns,
                keep_features=keep_features,
                trust_code=trust_code,
            )
            _predict_into(run, targets, out, request)
            return
        given = {"--segments": segments, "--retry-rejects": retry_rejects, "--columns": columns}
        given |= {"--keep-features": keep_features}
        if named := [name for name, value in {**given, "--allow-bucket": allow_bucket}.items() if value]:
            raise ConfigError(f"{', '.join(named)}: expected with a folder of answers. Add: --out ANSWERS")
        _print_predictions(run, targets, workers, limits, form, top, timeline, min_confidence, trust_code)


def _print_predictions(
    run: str,
    targets: list[str],
    workers: int | None,
    limits: dict[str, float],
    form: Format,
    top: int,
    timeline: bool,
    min_confidence: float | None,
    trust_code: bool,
) -> None:
    """Print predictions; exit with 1 if there are none."""
    from featurize.storage import StoragePath
    from jobs.inference.output_formats import FORMATS
    from jobs.inference.predict import predict as predict_all
    from jobs.terminal.console import ConsoleReporter

    answers = predict_all(StoragePath.of(run), targets, workers, ConsoleReporter(), limits, trust_code)
    echo(FORMATS[form.value](answers, top, timeline, min_confidence), nl=False)
    for path, reason in answers.rejects:
        _log.warning("%s: %s", path, reason)
    if not answers.tracks:
        raise typer.Exit(1)


def _predict_into(run: str, targets: list[str], out: str, request: "PredictionRequest") -> None:
    """Write answers and print what they are; exit with 1 if no track could be predicted."""
    from featurize.display import one_line, shell_word
    from featurize.storage import StoragePath
    from jobs.errors import ConfigError
    from jobs.inference.batch_prediction import predict_into
    from jobs.terminal.console import ConsoleReporter

    if len(targets) > 1:
        raise ConfigError(
            f"--out is for one folder, table or dataset; found {len(targets)}: "
            f"{', '.join(map(one_line, targets[:3]))}. Put the paths into a table with the column path."
        )
    folder, reporter = StoragePath.of(out), ConsoleReporter()
    with reporter.featurizing() as on_progress:
        answers = predict_into(StoragePath.of(run), targets[0], folder, request, on_progress)
    reporter.reject_table(answers.tracks, {(count.stage, count.reason): count.tracks for count in answers.rejects})
    shown, quoted = (folder, folder.quoted) if folder.scheme else (one_line(out), shell_word(out))
    by_count = sorted(answers.labels.items(), key=lambda label: -label[1])
    labels = ", ".join(f"{one_line(label)}: {count}" for label, count in by_count[:_LABELS_SHOWN] if count)
    more = f" and {len(by_count) - _LABELS_SHOWN} more classes" if len(by_count) > _LABELS_SHOWN else ""
    echo(
        f"answers   {shown}\n"
        f"predicted {answers.tracks - answers.rejected} of {answers.tracks} tracks\n"
        f"classes   {labels or 'none'}{more}\n"
        f"verify    earmark verify {quoted}"
    )
    if answers.rejected == answers.tracks:
        raise typer.Exit(1)
