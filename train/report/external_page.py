"""HTML page of an evaluation on an external test set."""

from collections.abc import Sequence

from featurize.version import VERSION
from train.answers.external import ConfidentError, ExternalMetrics
from train.report.html import class_colors, environment


def render_external(
    metrics: ExternalMetrics, errors: Sequence[ConfidentError], run: str, test_set: str, answers: str
) -> str:
    """Render an evaluation as HTML.

    Args:
        metrics: The metrics.
        errors: The most confident errors.
        run: Run folder, as it is shown.
        test_set: Test set, as it is shown.
        answers: Folder of the answers, as it is shown.

    Returns:
        A self-contained HTML page. Names of tracks and classes are escaped.
    """
    return (
        environment()
        .get_template("external.html.j2")
        .render(
            metrics=metrics,
            errors=errors,
            run=run,
            test_set=test_set,
            answers=answers,
            colors=class_colors(len(metrics.classes)),
            version=VERSION,
        )
    )
