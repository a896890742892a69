"""A comparison of runs as a document for programs."""

from collections.abc import Sequence
from typing import Any

from train.report.comparison import Entry, Row, remarks_on


def comparison_record(entries: Sequence[Entry], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the document of `earmark compare --json`.

    Args:
        entries: Entries from `train.report.comparison.read_entries`.
        rows: Rows from `train.report.comparison.table_of`.

    Returns:
        `runs`, for each entry its name, its settings, its number of parameters, and the scores of each of its
        models, which are several for a cross-validation; `rows`, the table as it is printed; and `remarks`.
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
        "remarks": remarks_on(entries),
    }
