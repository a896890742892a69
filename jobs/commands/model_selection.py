"""The commands that train many models of a dataset: cross-validation, and the search for settings."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.error_exits import plain_errors
from jobs.commands.options import ConfigFile, Features, Json, Overrides, RunFolder, Track
from jobs.terminal.console import echo, echo_json
from jobs.typed_command import recorded_command


def crossval(
    context: typer.Context,
    features: Features,
    out: RunFolder,
    config: ConfigFile = None,
    overrides: Overrides = None,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="FOLDS",
            help="Folds trained at a time, each in a separate process. By default one for each GPU, or for each "
            "eight cores; on a cluster as many as have room.",
        ),
    ] = None,
    track: Track = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            help="Models trained for each fold, with train.seed and the seeds after it. From two on, the spread "
            "over seeds and the spread over folds are shown apart.",
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Cross-validate: train one model per fold, test it on that fold, and print the mean over the folds.

    A fold is one fifth of the tracks, unless the collection has other folds; the mean over all folds is more
    reliable than the score of one. The official splits of a collection (validation, test) are left out.
    For comparison, an SVM on the mean and standard deviation of each feature is evaluated on each fold.
    Each fold has its own folder in RUN, and crossval.html shows all of them.
    After an interruption, run the same command again: finished folds are kept. So they are with more --seeds.
    """
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.conclusion import how_to_see
        from jobs.config import load_config
        from jobs.cross_validation import cross_validate
        from jobs.terminal.console import ConsoleReporter
        from jobs.tracking import tracking_uri

        reporter, path, server = ConsoleReporter(), StoragePath.of(out), tracking_uri(track)
        settings = load_config(config, overrides or [])
        summary = cross_validate(
            StoragePath.of(features), path, settings, reporter, at_once, seeds, recorded_command(context), server
        )
        if as_json:
            echo_json(summary.to_json())
            return
        from train.report.cross_validation_page import conclusions_of

        reporter.crossval(summary, conclusions_of(path, summary))
        echo(
            f"page      {path / 'crossval.html'}\nscores    {path / 'crossval.json'}\ncurves    {how_to_see(path)}"
        )


def tune(
    context: typer.Context,
    features: Features,
    space: Annotated[
        Path,
        typer.Option("--space", metavar="FILE", help="YAML file of the settings that vary, and their values."),
    ],
    out: Annotated[str, typer.Option("--out", metavar="RUNS", help="Output folder or URI of the trials.")],
    samples: Annotated[int, typer.Option(min=1, max=1000, metavar="TRIALS", help="Number of trials.")] = 40,
    config: ConfigFile = None,
    overrides: Overrides = None,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="TRIALS",
            help="Trials trained at a time, each in a separate process. By default as many as folds of crossval.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Search for better settings: train trials with random values of a space, and keep the settings of the best.

    Lines of a space: train.learning_rate: {loguniform: [1e-4, 1e-2]} and train.model: [conv3, modulation].
    Trials are compared on the validation fold after a sixteenth and a quarter of their epochs (ASHA); those that
    are not in the best quarter stop there. The test fold is not used.
    RUNS/best.yaml has the settings of the best trial, for --config; each trial is a run in RUNS.
    After an interruption, run the same command again: it continues where it stopped, also with more --samples.
    """
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.config import load_config
        from jobs.terminal.console import ConsoleReporter
        from jobs.tuning.trials import trial_folder
        from jobs.tuning.tune import tune as search
        from train.run import Run

        reporter, path, dataset = ConsoleReporter(), StoragePath.of(out), StoragePath.of(features)
        settings = load_config(config, overrides or [])
        summary = search(dataset, space, samples, path, settings, reporter, at_once, recorded_command(context))
        if as_json:
            echo_json(summary.to_json())
            return
        reporter.tuned(summary)
        best = trial_folder(path, summary.best)
        echo(f"best      {best}\nsettings  {path / 'best.yaml'}\ntrials    {path / 'tune.json'}")
        trust = " --trust-code" if Run(best).config().is_users_model else ""
        echo(f"next      earmark evaluate {best.quoted}{trust}")
