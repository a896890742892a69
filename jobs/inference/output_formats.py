"""Predictions as a table for the terminal, as JSON, and as CSV."""

import csv
import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurize.display import csv_cell, one_line, visible_json
from jobs.inference.predict import PredictionResults, TrackPrediction

_INDENT = "  "


def to_table(results: PredictionResults, top: int, timeline: bool, least: float | None = None) -> str:
    """Return one line per track; with `timeline`, one line per segment below it.

    Below the confidence `least`, a line says `unsure` before its classes.
    """
    names = [one_line(track.path) for track in results.tracks]
    width = max(map(len, names), default=0)
    lines = []
    for name, track in zip(names, results.tracks, strict=True):
        lines.append(f"{name:{width}}{_INDENT}{_line(results, track.track, top, least)}")
        if timeline:
            lines += [
                f"{f'{start:.2f} s':>{width}}{_INDENT}{_line(results, probabilities, top, least)}"
                for start, probabilities in zip(track.starts, track.segments, strict=True)
            ]
    return "".join(f"{line}\n" for line in lines)


def to_json(results: PredictionResults, top: int, timeline: bool, least: float | None = None) -> str:
    """Return `{"tracks": [{"path", "genres": [{"label", "probability"}]}], "rejects": [{"path", "reason"}]}`.

    With `timeline`, each track also has `segments`: a list of `start` (seconds) and `genres`. With `least`, each
    track has `unsure`: whether the confidence is below it.
    """
    content = {
        "tracks": [_track(results, track, top, timeline, least) for track in results.tracks],
        "rejects": [{"path": path, "reason": reason} for path, reason in results.rejects],
    }
    return visible_json(json.dumps(content, indent=2, ensure_ascii=False)) + "\n"


def to_csv(results: PredictionResults, top: int, timeline: bool, least: float | None = None) -> str:
    """Return one row per track, or with `timeline` one row per segment; `label_1` is the most probable genre.

    With `least`, the column `unsure` is true where the confidence is below it.
    """
    ranks = range(1, min(top, len(results.classes)) + 1)
    columns = [f"{column}_{rank}" for rank in ranks for column in ("label", "probability")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    unsure = [] if least is None else ["unsure"]
    writer.writerow(["path", *(["start"] if timeline else []), *unsure, *columns])
    for track in results.tracks:
        rows = zip(track.starts, track.segments, strict=True) if timeline else [(None, track.track)]
        for start, probabilities in rows:
            genres = _most_probable(results, probabilities, top)
            cells = [cell for label, probability in genres for cell in (csv_cell(label), f"{probability:.6f}")]
            place = [f"{start:.3f}"] if timeline else []
            verdict = [] if least is None else [str(_is_unsure(probabilities, least)).lower()]
            writer.writerow([csv_cell(track.path), *place, *verdict, *cells])
    return text.getvalue()


FORMATS = {"table": to_table, "json": to_json, "csv": to_csv}


def _track(
    results: PredictionResults, track: TrackPrediction, top: int, timeline: bool, least: float | None
) -> dict[str, Any]:
    content: dict[str, Any] = {"path": track.path, "genres": _genres(results, track.track, top)}
    if least is not None:
        content["unsure"] = _is_unsure(track.track, least)
    if timeline:
        content["segments"] = [
            {"start": float(start), "genres": _genres(results, probabilities, top)}
            for start, probabilities in zip(track.starts, track.segments, strict=True)
        ]
    return content


def _genres(results: PredictionResults, probabilities: NDArray[np.float64], top: int) -> list[dict[str, Any]]:
    return [
        {"label": label, "probability": round(probability, 6)}
        for label, probability in _most_probable(results, probabilities, top)
    ]


def _line(results: PredictionResults, probabilities: NDArray[np.float64], top: int, least: float | None) -> str:
    genres = _most_probable(results, probabilities, top)
    words = ["unsure"] if _is_unsure(probabilities, least) else []
    return _INDENT.join([*words, *(f"{one_line(label)} {probability:.3f}" for label, probability in genres)])


def _is_unsure(probabilities: NDArray[np.float64], least: float | None) -> bool:
    """Return whether the confidence is below the least one that is wanted; False if none is."""
    return least is not None and float(probabilities.max()) < least


def _most_probable(
    results: PredictionResults, probabilities: NDArray[np.float64], top: int
) -> list[tuple[str, float]]:
    """Return names and probabilities of the `top` most probable classes; ties keep the order of classes."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(results.classes[index], float(probabilities[index])) for index in order]
