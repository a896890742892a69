"""The commands `earmark evaluate`, on the test set of a run again or on an external one, and `earmark report`."""

from typing import Annotated

import typer

from jobs.commands.error_exits import plain_errors
from jobs.commands.options import (
    AllowedBuckets,
    Columns,
    Json,
    Layout,
    MovedFeatures,
    RetryRejects,
    TrainedRun,
    TrustCode,
    Workers,
)
from jobs.terminal.console import echo, echo_json


def report(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Folder or URI of a run, or of a cross-validation."),
    ],
    features: MovedFeatures = None,
    embed_audio: Annotated[
        int,
        typer.Option(
            "--embed-audio",
            metavar="N",
            min=0,
            max=100,
            help="Put 10-second clips of the N surest mistakes into the page, to mail it with sound.",
        ),
    ] = 0,
) -> None:
    """Write report.html of a run again, or crossval.html of a cross-validation, from the files that are there.

    Nothing is trained or evaluated.
    """
    with plain_errors(kept=""):
        from featurize.storage import StoragePath
        from jobs.audio_clips import clips_of
        from jobs.errors import ConfigError
        from jobs.moved_dataset import open_dataset_of
        from jobs.terminal.log import show_log
        from train.report.cross_validation_page import PAGE, write_cross_validation_page
        from train.report.run_page import surest_mistakes, write_run_page
        from train.run import Run

        show_log()
        finished = Run(StoragePath.of(run))
        if finished.cross_validation():
            if embed_audio or features is not None:
                raise ConfigError(
                    f"{run} is a cross-validation, whose page has no audio and needs no dataset: give the folder "
                    "of one of its runs, or leave --embed-audio and --features out"
                )
            write_cross_validation_page(finished)
            echo(f"page      {finished.folder / PAGE}")
            return
        dataset = open_dataset_of(finished, StoragePath.of(features) if features is not None else None)
        clips = clips_of(surest_mistakes(finished, embed_audio), dataset) if embed_audio else {}
        write_run_page(finished, dataset, clips)
        if embed_audio:
            echo(f"clips     {len(clips)}, of the surest mistakes")
        echo(f"report    {finished.report}")


def evaluate(
    run: TrainedRun,
    features: MovedFeatures = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="TEST_SET",
            help="External test set: a music collection with labels as for earmark featurize, or a dataset.",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="Output folder or URI of the results on --on.")
    ] = None,
    workers: Workers = None,
    retry_rejects: RetryRejects = False,
    allow_bucket: AllowedBuckets = None,
    layout: Layout = None,
    columns: Columns = None,
    as_json: Json = False,
    trust_code: TrustCode = False,
) -> None:
    """Evaluate a trained model on its test set again, and rewrite metrics.json and report.html.

    With --on, evaluate it on all tracks of an external test set, whose classes are matched by name.
    Its predictions, metrics and report are written to --out, and the run stays as it is.
    After an interruption, run the same command again: it continues where it stopped.
    """
    with plain_errors():
        from featurize.storage import StoragePath
        from jobs.conclusion import conclusion, external_conclusion
        from jobs.errors import ConfigError
        from jobs.pipeline import evaluate_model

        if on is not None:
            from jobs.inference.batch_prediction import PredictionRequest
            from jobs.inference.external_evaluation import evaluate_on
            from jobs.terminal.console import ConsoleReporter

            if out is None or features is not None:
                problem = "--features is the dataset of the run" if features is not None else "--out is missing"
                raise ConfigError(f"--on: {problem}. Expected: earmark evaluate RUN --on TEST_SET --out FOLDER")
            request = PredictionRequest(
                workers,
                True,
                retry_rejects,
                {},
                allow_bucket or [],
                columns,
                labeled=True,
                layout=layout,
                trust_code=trust_code,
            )
            folder = StoragePath.of(out)
            external = evaluate_on(StoragePath.of(run), on, folder, request, ConsoleReporter())
            if as_json:
                echo_json(external.to_json())
            else:
                echo(external_conclusion(folder, external))
            return
        given: dict[str, object] = {
            "--out": out,
            "--workers": workers,
            "--retry-rejects": retry_rejects,
            "--layout": layout,
        }
        given |= {"--allow-bucket": allow_bucket, "--columns": columns}
        if named := [name for name, value in given.items() if value]:
            raise ConfigError(f"{', '.join(named)}: expected with an external test set. Add: --on TEST_SET")
        from jobs.terminal.log import show_log

        show_log()
        moved, path = StoragePath.of(features) if features is not None else None, StoragePath.of(run)
        metrics = evaluate_model(path, moved, again=True, trust_code=trust_code)
        if as_json:
            echo_json(metrics.to_json())
        else:
            echo(conclusion(path, metrics))
