"""The command `earmark evaluate`: on the test set of a run again, or on an external one."""

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
        from jobs.errors import ConfigError
        from jobs.pipeline import conclusion, evaluate_model, external_conclusion

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
