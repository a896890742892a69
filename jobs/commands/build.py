"""The commands that write datasets, models and reports, on this machine or on a cluster."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from featurize.display import one_line, shell_word
from featurize.uri import uri_without_secrets
from jobs.commands.error_exits import plain_errors
from jobs.commands.options import (
    AllowedBuckets,
    Columns,
    ConfigFile,
    Features,
    Layout,
    Music,
    Overrides,
    RetryRejects,
    RunFolder,
    Track,
    Workers,
)
from jobs.terminal.console import echo
from jobs.typed_command import recorded_command


def run(
    context: typer.Context,
    music: Music,
    out: RunFolder,
    config: ConfigFile = None,
    overrides: Overrides = None,
    workers: Workers = None,
    retry_rejects: RetryRejects = False,
    allow_bucket: AllowedBuckets = None,
    layout: Layout = None,
    columns: Columns = None,
    track: Track = None,
) -> None:
    """Train a genre classifier on a music collection: featurize, train, evaluate and write the report.

    After an interruption, run the same command again: it continues where it stopped.
    """
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.conclusion import conclusion
        from jobs.config import load_config
        from jobs.pipeline import run as run_all
        from jobs.terminal.console import ConsoleReporter
        from jobs.tracking import tracked, tracking_uri

        settings, path = load_config(config, overrides or []), StoragePath.of(out)
        buckets = allow_bucket or []
        with tracked(tracking_uri(track), path) as observer:
            metrics = run_all(
                music,
                path,
                settings,
                workers,
                ConsoleReporter(),
                retry_rejects,
                buckets,
                layout,
                columns,
                recorded_command(context),
                observer,
            )
        echo(conclusion(path, metrics))


def featurize(
    music: Music,
    out: Annotated[str, typer.Option("--out", metavar="FEATURES", help="Output folder or URI of the dataset.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    workers: Workers = None,
    retry_rejects: RetryRejects = False,
    allow_bucket: AllowedBuckets = None,
    layout: Layout = None,
    columns: Columns = None,
) -> None:
    """Convert music to a dataset: features of short segments, by default MFCC, in Parquet shards.

    After an interruption, run the same command again: it continues where it stopped.
    After the collection has changed, it adds the new tracks and drops the removed ones.
    """
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.config import load_config
        from jobs.pipeline import make_features
        from jobs.terminal.console import ConsoleReporter

        settings, path, buckets = load_config(config, overrides or []), StoragePath.of(out), allow_bucket or []
        make_features(music, path, settings, workers, ConsoleReporter(), retry_rejects, buckets, layout, columns)
        shown, quoted = (path, path.quoted) if path.scheme else (one_line(out), shell_word(out))
        echo(f"features  {shown}\nnext      earmark train {quoted} --out RUN")


def compact(features: Features, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Merge the shards of a dataset that are less than half full, as many small additions leave them.

    Rows are copied: the music is not needed, and every track keeps its fold and its features.
    A shard has at most featurize.tracks_per_shard tracks.
    The dataset gets another id, so finish and evaluate the runs that are trained on it first.
    After an interruption, run the same command again: it continues where it stopped.
    """
    with plain_errors():
        from featurize.dataset_build.compact import compact as merge_small
        from featurize.storage import StoragePath
        from jobs.config import load_config
        from jobs.terminal.console import ConsoleReporter

        size, path = load_config(config, overrides or []).featurize.tracks_per_shard, StoragePath.of(features)
        with ConsoleReporter().compacting() as on_progress:
            done = merge_small(path, size, on_progress)
        shown = path if path.scheme else one_line(features)
        merged = f"merged from {done.before}" if done.after < done.before else "none to merge"
        echo(f"features  {shown}\nshards    {done.after}, {merged}")


def train(
    context: typer.Context,
    features: Features,
    out: RunFolder,
    config: ConfigFile = None,
    overrides: Overrides = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="OTHER_RUN",
            help="Begin with the weights of another run: of all layers that fit by name and shape.",
        ),
    ] = None,
    track: Track = None,
) -> None:
    """Train a model on a dataset, evaluate it and write the report.

    After an interruption, run the same command again: it continues from the latest checkpoint.
    """
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.conclusion import conclusion
        from jobs.config import load_config
        from jobs.pipeline import evaluate_model, make_model
        from jobs.terminal.console import ConsoleReporter
        from jobs.tracking import tracked, tracking_uri

        reporter, dataset, path = ConsoleReporter(), StoragePath.of(features), StoragePath.of(out)
        settings = load_config(config, overrides or [])
        other = StoragePath.of(start) if start is not None else None
        with tracked(tracking_uri(track), path) as observer:
            make_model(dataset, path, settings, reporter, other, recorded_command(context), observer)
            metrics = evaluate_model(path, dataset, trust_code=settings.train.is_users_model)
        echo(conclusion(path, metrics))


def submit(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND ...",
            help="The command to run on the cluster, as typed after earmark: run, train, ...",
        ),
    ],
    address: Annotated[
        str,
        typer.Option(metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="Dashboard of the Ray cluster."),
    ] = "http://127.0.0.1:8265",
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--detach", help="Print the log and exit with the status of the job, or return immediately."
        ),
    ] = True,
    stop_on_interrupt: Annotated[
        bool, typer.Option("--stop-on-interrupt", help="Stop the job at Ctrl-C. By default the job continues.")
    ] = False,
    shared: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="Folder mounted at the same path on every node. May be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files to upload and their sizes in bytes; upload nothing.")
    ] = False,
) -> None:
    """Run a command on a Ray cluster: earmark submit -- run s3://BUCKET/music --out s3://BUCKET/run.

    Only Earmark's code and its commit, the settings, the space of a search, and the files of models that these
    name are uploaded. Music, dataset and results must be in a bucket or a folder that every node can access.
    """
    with plain_errors():
        from jobs.remote.code_bundle import code_files, revision_file, sizes
        from jobs.remote.remote_command import read_command
        from jobs.remote.shared_paths import refuse_local_paths
        from jobs.remote.submit import follow, readable_id
        from jobs.remote.submit import submit as send

        group: Any = context.parent.command if context.parent else None
        remote = read_command(group.commands, command)
        refuse_local_paths(remote.paths, shared or [])
        files, code = code_files(), {**remote.code, **revision_file()}
        uploads = sizes(files, remote.settings, code)
        total = f"{len(uploads)} files, {sum(uploads.values()):,} bytes"
        if dry_run:
            echo("\n".join(f"{size:>10,}  {name}" for name, size in sorted(uploads.items())))
            shown = one_line(shlex.join(map(uri_without_secrets, remote.arguments)))
            echo(f"{total} would be uploaded to {address} to run: earmark {shown}")
            return
        job = send(
            address,
            readable_id(remote.name, remote.out),
            remote.arguments,
            files,
            remote.settings,
            code,
            remote.metadata,
        )
        echo(f"Submitted: {job.id} to {address} ({total})\n{job.commands()}", err=True)
        if wait:
            raise typer.Exit(follow(job, stop_on_interrupt, lambda text: echo(text, err=True)))


def demo(
    context: typer.Context,
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", help="Output folder of the music and the run.")
    ] = "earmark-demo",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the music.")] = 0,
    workers: Workers = None,
) -> None:
    """Try Earmark: synthesize a small music collection in three styles, then train and evaluate a model on it."""
    with plain_errors():
        from featurize.errors import FeaturizeError
        from featurize.storage import StoragePath
        from jobs.conclusion import conclusion
        from jobs.demo.demo import run_demo
        from jobs.terminal.console import ConsoleReporter

        folder = StoragePath.of(out)
        if not folder.local:
            raise FeaturizeError(f"--out {folder}: expected a folder on this machine.")
        metrics = run_demo(Path(out), seed, workers, ConsoleReporter(), recorded_command(context))
        echo(conclusion(folder / "run", metrics))
