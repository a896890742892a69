"""The last lines of a command on the terminal: the scores, and where the results are."""

from typing import TYPE_CHECKING

from featurize.display import one_line
from featurize.storage import StoragePath

if TYPE_CHECKING:
    from train.answers.external import ExternalMetrics
    from train.score_records import Metrics


def conclusion(out: StoragePath, metrics: "Metrics") -> str:
    """Return the last lines on the terminal: scores of the model, and paths of the report, model and curves."""
    from train.run import Run

    tracks, segments = metrics.tracks, metrics.segments
    return "\n".join(
        [
            f"tracks    accuracy {tracks.accuracy:.3f}  macro-F1 {tracks.macro_f1:.3f}  "
            f"({tracks.count} held-out tracks, {metrics.test_set})",
            f"segments  accuracy {segments.accuracy:.3f}  macro-F1 {segments.macro_f1:.3f}  "
            f"({segments.count} held-out segments)",
            f"report    {out / 'report.html'}",
            f"model     {out / 'model.keras'}",
            f"curves    {how_to_see(Run(out).tensorboard)}",
        ]
    )


def external_conclusion(out: StoragePath, metrics: "ExternalMetrics") -> str:
    """Return the last lines on the terminal after an evaluation on an external test set."""
    tracks, segments = metrics.tracks, metrics.segments
    lines = [
        f"tracks    accuracy {tracks.accuracy:.3f}  macro-F1 {tracks.macro_f1:.3f}  ({tracks.count} tracks)",
        f"segments  accuracy {segments.accuracy:.3f}  macro-F1 {segments.macro_f1:.3f}  "
        f"({segments.count} segments)",
    ]
    if metrics.unmatched:
        names = ", ".join(one_line(name) or "(none)" for name in metrics.unmatched)
        lines.append(f"left out  {sum(metrics.unmatched.values())} tracks of classes without a match: {names}")
    return "\n".join([*lines, f"report    {out / 'report.html'}", f"metrics   {out / 'metrics.json'}"])


def how_to_see(curves: StoragePath) -> str:
    """Return the command that shows the curves in TensorBoard."""
    return f"tensorboard --logdir {curves.quoted}" if curves.local else f"{curves} (copy it here for TensorBoard)"
