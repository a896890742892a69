"""The verbs. What a verb needs is imported inside it, so that help is there at once."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Learn to tell music genres by ear: from a folder of labelled music to a trained classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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


_KEPT = "What was finished is kept: the same command goes on from there."


@app.command()
def run(
    music: Music,
    out: RunFolder,
    config: ConfigFile = None,
    overrides: Overrides = None,
    workers: Workers = None,
    retry_rejects: RetryRejects = False,
) -> None:
    """Featurize, train, evaluate and report: from music to a model with one command.

    Run again after an interruption, it goes on where it stopped.
    """
    with _plain_errors():
        from featurize.storage import Place
        from jobs.config import load_config
        from jobs.console import Teller
        from jobs.pipeline import conclusion
        from jobs.pipeline import run as run_all

        settings, place = load_config(config, overrides or []), Place.of(out)
        metrics = run_all(music, place, settings, workers, Teller(), retry_rejects)
        typer.echo(conclusion(place, metrics))


@app.command()
def featurize(
    music: Music,
    out: Annotated[
        str, typer.Option("--out", metavar="FEATURES", help="Where the dataset goes: a folder or a URI.")
    ],
    config: ConfigFile = None,
    overrides: Overrides = None,
    workers: Workers = None,
    retry_rejects: RetryRejects = False,
) -> None:
    """Turn music into a dataset of MFCC segments in Parquet shards.

    Run again on a collection that has changed, it adds new tracks and takes out removed ones.
    """
    with _plain_errors():
        from featurize.storage import Place
        from jobs.config import load_config
        from jobs.console import Teller
        from jobs.pipeline import make_features

        settings = load_config(config, overrides or [])
        make_features(music, Place.of(out), settings, workers, Teller(), retry_rejects)
        typer.echo(f"features  {out}\nnext      earmark train {out} --out RUN")


@app.command()
def train(features: Features, out: RunFolder, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Train a model on a dataset, then evaluate it and write the report."""
    with _plain_errors():
        from featurize.storage import Place
        from jobs.config import load_config
        from jobs.console import Teller
        from jobs.pipeline import conclusion, judge_model, make_model

        teller, dataset, place = Teller(), Place.of(features), Place.of(out)
        make_model(dataset, place, load_config(config, overrides or []), teller)
        typer.echo(conclusion(place, judge_model(place, dataset, teller)))


@app.command()
def crossval(features: Features, out: RunFolder, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Train one model for each fold and judge it there: the mean over the folds says more than one fold can.

    Each fold's run lies in its own folder below RUN; run again after an interruption, finished folds are kept. An
    SVM on the mean and the deviation of each coefficient is judged beside the network.
    """
    with _plain_errors():
        from featurize.storage import Place
        from jobs.config import load_config
        from jobs.console import Teller
        from jobs.pipeline import cross_validate, how_to_see

        teller, place = Teller(), Place.of(out)
        summary = cross_validate(Place.of(features), place, load_config(config, overrides or []), teller)
        teller.crossval(summary)
        typer.echo(f"figures   {place / 'crossval.json'}\ncurves    {how_to_see(place)}")


@app.command()
def submit(
    command: Annotated[
        list[str], typer.Argument(metavar="-- VERB ...", help="What to run there, as it would be typed here.")
    ],
    address: Annotated[
        str,
        typer.Option(metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The dashboard of the cluster's head."),
    ] = "http://127.0.0.1:8265",
    wait: Annotated[
        bool,
        typer.Option("--wait/--detach", help="Follow the job's log and end with its status, or return at once."),
    ] = True,
    stop_on_interrupt: Annotated[
        bool, typer.Option("--stop-on-interrupt", help="Ctrl-C stops the job; else it goes on without you.")
    ] = False,
    shared: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="A folder mounted at this path on every node. May be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would travel, and its bytes; send nothing.")
    ] = False,
) -> None:
    """Run a verb on a Ray cluster: earmark submit -- run s3://BUCKET/music --out s3://BUCKET/run.

    Only Earmark's code and the settings travel; music, dataset and results are where every node sees them.
    """
    with _plain_errors():
        from jobs.package import code_files, sizes
        from jobs.places import refuse_hidden
        from jobs.submit import follow, readable_id
        from jobs.submit import submit as send
        from jobs.verbs import read_command

        asked = read_command(app, command)
        refuse_hidden(asked.places, shared or [])
        files = code_files()
        found = sizes(files, asked.settings)
        total = f"{len(found)} files, {sum(found.values()):,} bytes"
        if dry_run:
            typer.echo("\n".join(f"{size:>10,}  {name}" for name, size in sorted(found.items())))
            typer.echo(f"{total} would travel to {address}, to run there: earmark {' '.join(asked.arguments)}")
            return
        job = send(address, readable_id(asked.verb, asked.out), asked.arguments, files, asked.settings)
        typer.echo(f"Submitted: {job.id} to {address} ({total})\n{job.commands()}", err=True)
        if wait:
            raise typer.Exit(follow(job, stop_on_interrupt, lambda text: typer.echo(text, err=True)))


@app.command()
def status(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A dataset or a run: a folder or URI given as --out.")
    ],
) -> None:
    """Say how far a dataset or a run is: what is done, what is left, how many rejects and why."""
    with _plain_errors():
        from featurize.storage import Place
        from jobs.progress import progress_lines

        typer.echo(progress_lines(Place.of(folder)))


@app.command()
def verify(features: Features) -> None:
    """Read a whole dataset back and compare every track with what was written; status 1 if anything differs."""
    with _plain_errors():
        from featurize.dataset import open_dataset
        from featurize.inspect import verify as verify_all
        from jobs.console import Teller

        dataset = open_dataset(features)
        problems = Teller().verifying(verify_all(dataset), len(dataset.shards))
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


@app.command()
def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A folder or URI made by earmark run or earmark train.")
    ],
    features: Annotated[
        str | None, typer.Option(metavar="FEATURES", help="Where the dataset is, if it has moved.")
    ] = None,
) -> None:
    """Judge a trained model on its test fold again, and write metrics.json and report.html."""
    with _plain_errors():
        from featurize.storage import Place
        from jobs.console import Teller
        from jobs.pipeline import conclusion, judge_model

        moved, place = Place.of(features) if features else None, Place.of(run)
        typer.echo(conclusion(place, judge_model(place, moved, Teller(), again=True)))


@app.command()
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
    with _plain_errors(kept=""):
        from featurize.storage import Place
        from jobs.answers import FORMATS
        from jobs.console import Teller
        from jobs.predicting import predict as predict_all

        teller = Teller()
        answers = predict_all(Place.of(run), targets, workers, teller)
        typer.echo(FORMATS[form.value](answers, top, timeline), nl=False)
        for path, reason in answers.rejects:
            teller.say(f"{path}: {reason}")
        if not answers.tracks:
            raise typer.Exit(1)


@app.command()
def config(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Print the settings that --config and --set come to, with a comment on each."""
    with _plain_errors():
        from jobs.config import load_config, to_yaml

        typer.echo(to_yaml(load_config(config, overrides or [])), nl=False)


@app.command()
def check() -> None:
    """Try what this machine can do, up to a run of everything on ten tones; status 1 if anything is broken."""
    with _plain_errors(kept=""):
        from jobs.check import check_all

        broken = 0
        for finding in check_all():
            typer.echo(finding)
            broken += finding.state == "broken"
        if broken:
            raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where music and run go.")] = Path(
        "earmark-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Another seed composes other music.")] = 0,
    workers: Workers = None,
) -> None:
    """Compose a small collection in three synthetic styles, and run everything on it."""
    with _plain_errors():
        from featurize.storage import Place
        from jobs.console import Teller
        from jobs.demo import run_demo
        from jobs.pipeline import conclusion

        metrics = run_demo(out, seed, workers, Teller())
        typer.echo(conclusion(Place.of(out / "run"), metrics))


def main() -> None:
    """Run a verb; SIGTERM ends it as cleanly as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _terminate)
    app()


@contextmanager
def _plain_errors(kept: str = _KEPT) -> Iterator[None]:
    """Turn what a user can mend into a sentence and an exit status: 1, 2 for settings, 130 for Ctrl-C.

    Args:
        kept: what there is to say of an end in the middle.
    """
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped. {kept}".strip(), err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        from featurize.errors import FeaturizeError
        from featurize.storage import describe
        from jobs.config import ConfigError
        from jobs.signals import Interrupted
        from train.config import TrainError

        if isinstance(error, Interrupted):
            typer.echo(f"Stopped: {error}. The same command goes on from there.", err=True)
            raise typer.Exit(128 + error.signum) from None
        if isinstance(error, OSError):
            typer.echo(f"earmark: {describe(error)}. {kept}".strip(), err=True)
        elif isinstance(error, FeaturizeError | ConfigError | TrainError):
            typer.echo(f"earmark: {error}", err=True)
        else:
            raise
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None


def _terminate(signum: int, frame: object) -> None:
    typer.echo(f"Stopped. {_KEPT}", err=True)
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
