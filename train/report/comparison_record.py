"""A comparison of runs as a document for programs."""

from collections.abc import Sequence
from typing import Any

from train.report.comparison import Entry, Row
from train.report.paired import Paired


def comparison_record(
    entries: Sequence[Entry], rows: Sequence[Row], pairs: Sequence[Paired], remarks: Sequence[str]
) -> dict[str, Any]:
    """Return the document of `earmark compare --json`.

    Args:
        entries: Entries from `train.report.comparison.read_entries`.
        rows: Rows from `train.report.comparison.table_of`.
        pairs: Paired comparisons from `train.report.paired.compare_with_first`.
        remarks: Sentences on how to read the comparison, and why runs are not compared track by track.

    Returns:
        `runs`, for each entry its name, its settings, its number of parameters, and the scores of each of its
        models, which are several for a cross-validation; `rows`, the table as it is printed; `pairs`, how the
        first run differs from each other one on their common tracks; and `remarks`.
    """
    return {
        "runs": [
            {
                "name": entry.name,
                "settings": entry.settings,
                "parameters": entry.parameters,
                "scores": [
                    {
                        part: {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1, "loss": scores.loss}
                        for part, scores in (("tracks", metrics.tracks), ("segments", metrics.segments))
                    }
                    for metrics in entry.metrics
                ],
            }
            for entry in entries
        ],
        "rows": [{"label": row.label, "values": row.cells, "best": sorted(row.best)} for row in rows],
        "pairs": [_pair(pair) for pair in pairs],
        "remarks": list(remarks),
    }


def _pair(pair: Paired) -> dict[str, Any]:
    """Return a paired comparison: runs are counted from 1, as in the table."""
    return {
        "first": pair.first + 1,
        "second": pair.second + 1,
        "tracks": pair.tracks,
        "groups": pair.groups,
        "differences": {
            name: {"value": difference.value, "interval": list(difference.interval)}
            for name, difference in (pair.differences or {}).items()
        },
        "only_first_correct": pair.only_first,
        "only_second_correct": pair.only_second,
        "mcnemar_p": pair.p_value,
    }
