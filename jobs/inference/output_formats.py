"""What a model heard, as a table for people, JSON for programs, and CSV for spreadsheets."""

import csv
import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.inference.predict import PredictionResults, TrackPrediction

_INDENT = "  "


def to_table(answers: PredictionResults, top: int, timeline: bool) -> str:
    """Return a line for each track, and below it, if asked for, one for each segment."""
    width = max((len(track.path) for track in answers.tracks), default=0)
    lines = []
    for track in answers.tracks:
        lines.append(f"{track.path:{width}}{_INDENT}{_in_words(answers, track.track, top)}")
        if timeline:
            lines += [
                f"{f'{start:.2f} s':>{width}}{_INDENT}{_in_words(answers, probabilities, top)}"
                for start, probabilities in zip(track.starts, track.segments, strict=True)
            ]
    return "".join(f"{line}\n" for line in lines)


def to_json(answers: PredictionResults, top: int, timeline: bool) -> str:
    """Return `{"tracks": [{"path", "genres": [{"label", "probability"}]}], "rejects": [{"path", "reason"}]}`.

    With a timeline each track has `segments`, too: a list of `start` (seconds) and `genres`.
    """
    content = {
        "tracks": [_track(answers, track, top, timeline) for track in answers.tracks],
        "rejects": [{"path": path, "reason": reason} for path, reason in answers.rejects],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def to_csv(answers: PredictionResults, top: int, timeline: bool) -> str:
    """Return a row for each track, or with a timeline for each segment; `label_1` is the most probable genre."""
    ranks = range(1, min(top, len(answers.classes)) + 1)
    named = [f"{column}_{rank}" for rank in ranks for column in ("label", "probability")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", *(["start"] if timeline else []), *named])
    for track in answers.tracks:
        rows = zip(track.starts, track.segments, strict=True) if timeline else [(None, track.track)]
        for start, probabilities in rows:
            genres = _most_probable(answers, probabilities, top)
            cells = [cell for label, probability in genres for cell in (label, f"{probability:.6f}")]
            writer.writerow([track.path, *([f"{start:.3f}"] if timeline else []), *cells])
    return text.getvalue()


FORMATS = {"table": to_table, "json": to_json, "csv": to_csv}


def _track(answers: PredictionResults, track: TrackPrediction, top: int, timeline: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"path": track.path, "genres": _genres(answers, track.track, top)}
    if timeline:
        content["segments"] = [
            {"start": float(start), "genres": _genres(answers, probabilities, top)}
            for start, probabilities in zip(track.starts, track.segments, strict=True)
        ]
    return content


def _genres(answers: PredictionResults, probabilities: NDArray[np.float64], top: int) -> list[dict[str, Any]]:
    return [
        {"label": label, "probability": round(probability, 6)}
        for label, probability in _most_probable(answers, probabilities, top)
    ]


def _in_words(answers: PredictionResults, probabilities: NDArray[np.float64], top: int) -> str:
    genres = _most_probable(answers, probabilities, top)
    return _INDENT.join(f"{label} {probability:.3f}" for label, probability in genres)


def _most_probable(
    answers: PredictionResults, probabilities: NDArray[np.float64], top: int
) -> list[tuple[str, float]]:
    """Return the names and probabilities of the most probable classes, the first of equals first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(answers.classes[index], float(probabilities[index])) for index in order]
