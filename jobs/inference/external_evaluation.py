"""Evaluate a trained model on an external test set: predict it, and compare the answers with its labels."""

import json
import logging

from featurize.dataset.output_folder import refuse_foreign_evaluation_folder
from featurize.storage import StoragePath
from featurize.uri import uri_without_secrets
from jobs.inference.batch_prediction import PredictionRequest, predict_into
from jobs.terminal.console import ConsoleReporter
from train.answers.external import METRICS, ExternalMetrics, score_answers
from train.report.external_page import render_external

_log = logging.getLogger(__name__)


def evaluate_on(
    run: StoragePath, test_set: str, out: StoragePath, request: PredictionRequest, reporter: ConsoleReporter
) -> ExternalMetrics:
    """Evaluate the model of a run on music or a dataset; write `answers/`, `metrics.json` and `report.html`.

    Args:
        run: Folder of a finished run.
        test_set: Collection of music with labels, or folder of a dataset; a path or a URI. All its tracks are
            evaluated, whatever their fold.
        out: Output folder.
        request: Options, with `labeled` and `by_segment`.
        reporter: Shows progress and the table of rejects.

    Raises:
        TrainError: The run has no model, or no class of the test set is one of the model.
        FeaturizeError: As from `predict_into`.
    """
    refuse_foreign_evaluation_folder(out)
    answers = out / "answers"
    with reporter.featurizing() as on_progress:
        found = predict_into(run, test_set, answers, request, on_progress)
    reporter.reject_table(found.tracks, {(count.stage, count.reason): count.tracks for count in found.rejects})
    metrics, errors = score_answers(answers)
    if metrics.unmatched:
        left_out = sum(metrics.unmatched.values())
        _log.warning(
            "%d tracks are not evaluated: the model does not have their classes (%s).",
            left_out,
            ", ".join(f"{label or 'none'}: {count}" for label, count in metrics.unmatched.items()),
        )
    if metrics.absent:
        _log.warning("The test set has no tracks of %s.", ", ".join(metrics.absent))
    text = json.dumps(metrics.to_json(), indent=2, ensure_ascii=False) + "\n"
    (out / METRICS).write(text.encode())
    page = render_external(metrics, errors, str(run), uri_without_secrets(test_set), str(answers))
    (out / "report.html").write(page.encode())
    return metrics
