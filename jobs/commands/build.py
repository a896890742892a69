"""The verbs that make something: datasets, models and their reports, here or on a cluster."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.commands.error_exits import plain_errors
from jobs.commands.options import ConfigFile, Features, Music, Overrides, RetryRejects, RunFolder, Workers


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
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.config import load_config
        from jobs.pipeline import conclusion
        from jobs.pipeline import run as run_all
        from jobs.terminal.console import ConsoleReporter

        settings, place = load_config(config, overrides or []), StoragePath.of(out)
        metrics = run_all(music, place, settings, workers, ConsoleReporter(), retry_rejects)
        typer.echo(conclusion(place, metrics))


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
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.config import load_config
        from jobs.pipeline import make_features
        from jobs.terminal.console import ConsoleReporter

        settings = load_config(config, overrides or [])
        make_features(music, StoragePath.of(out), settings, workers, ConsoleReporter(), retry_rejects)
        typer.echo(f"features  {out}\nnext      earmark train {out} --out RUN")


def train(features: Features, out: RunFolder, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Train a model on a dataset, then evaluate it and write the report."""
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.config import load_config
        from jobs.pipeline import conclusion, evaluate_model, make_model
        from jobs.terminal.console import ConsoleReporter

        reporter, dataset, place = ConsoleReporter(), StoragePath.of(features), StoragePath.of(out)
        make_model(dataset, place, load_config(config, overrides or []), reporter)
        typer.echo(conclusion(place, evaluate_model(place, dataset, reporter)))


def crossval(features: Features, out: RunFolder, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Train one model for each fold and judge it there: the mean over the folds says more than one fold can.

    Each fold's run lies in its own folder below RUN; run again after an interruption, finished folds are kept. An
    SVM on the mean and the deviation of each coefficient is judged beside the network.
    """
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.config import load_config
        from jobs.pipeline import cross_validate, how_to_see
        from jobs.terminal.console import ConsoleReporter

        reporter, place = ConsoleReporter(), StoragePath.of(out)
        summary = cross_validate(StoragePath.of(features), place, load_config(config, overrides or []), reporter)
        reporter.crossval(summary)
        typer.echo(f"figures   {place / 'crossval.json'}\ncurves    {how_to_see(place)}")


def submit(
    context: typer.Context,
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
    with plain_errors():
        from jobs.remote.code_bundle import code_files, sizes
        from jobs.remote.remote_command import read_command
        from jobs.remote.shared_paths import refuse_hidden
        from jobs.remote.submit import follow, readable_id
        from jobs.remote.submit import submit as send

        verbs: Any = context.parent.command if context.parent else None
        asked = read_command(verbs.commands, command)
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


def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A folder or URI made by earmark run or earmark train.")
    ],
    features: Annotated[
        str | None, typer.Option(metavar="FEATURES", help="Where the dataset is, if it has moved.")
    ] = None,
) -> None:
    """Judge a trained model on its test fold again, and write metrics.json and report.html."""
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.pipeline import conclusion, evaluate_model
        from jobs.terminal.console import ConsoleReporter

        moved, place = StoragePath.of(features) if features else None, StoragePath.of(run)
        typer.echo(conclusion(place, evaluate_model(place, moved, ConsoleReporter(), again=True)))


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where music and run go.")] = Path(
        "earmark-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Another seed composes other music.")] = 0,
    workers: Workers = None,
) -> None:
    """Compose a small collection in three synthetic styles, and run everything on it."""
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.demo.demo import run_demo
        from jobs.pipeline import conclusion
        from jobs.terminal.console import ConsoleReporter

        metrics = run_demo(out, seed, workers, ConsoleReporter())
        typer.echo(conclusion(StoragePath.of(out / "run"), metrics))
