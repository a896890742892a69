"""The page of a label review: doubtful labels, copies and outliers, each with a player, and a corrected table."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from featurize.dataset.dataset import Dataset
from featurize.storage import StoragePath
from featurize.version import VERSION
from train.evaluation.label_review import Copies, DoubtfulLabel, Outlier
from train.evaluation.predictions import audio_link
from train.report.html import class_colors, environment

_MOST_ROWS = 2000  # of each table
_FORMULA = ("=", "+", "-", "@")


@dataclasses.dataclass(frozen=True)
class LabelReview:
    """The content of the page.

    Attributes:
        doubtful: Tracks whose label is probably wrong.
        copies: Tracks that are one recording.
        all_compared: False if there were too many tracks to look for outliers and for copies in other encodings.
        outliers: Tracks that resemble no other one.
        timelines: Predicted class index of each segment, by track, of the doubtful tracks.
        classes: Class names.
    """

    doubtful: Sequence[DoubtfulLabel]
    copies: Sequence[Copies]
    all_compared: bool
    outliers: Sequence[Outlier]
    timelines: Mapping[str, Sequence[int]]
    classes: Sequence[str]


def render_labels(review: LabelReview, dataset: Dataset, folder: StoragePath, name: str) -> str:
    """Render a label review as HTML.

    Args:
        review: What was found.
        dataset: Dataset of the cross-validation.
        folder: Folder of the page, which links to audio files are relative to.
        name: Folder of the cross-validation, as the user typed it.

    Returns:
        A self-contained HTML page. Names of tracks and classes are escaped.
    """
    music = dataset.music()
    shown = {finding.track for finding in review.doubtful[:_MOST_ROWS]}
    shown |= {outlier.track for outlier in review.outliers[:_MOST_ROWS]}
    shown |= {track for copies in review.copies[:_MOST_ROWS] for track in copies.tracks}
    return (
        environment()
        .get_template("labels.html.j2")
        .render(
            review=review,
            limit=_MOST_ROWS,
            disagreeing=sum(copies.disagree for copies in review.copies),
            tracks=dataset.info.tracks,
            links={track: link for track in sorted(shown) if (link := audio_link(track, music, folder))},
            colors=class_colors(len(review.classes)),
            stripes={track: _stripes(timeline) for track, timeline in review.timelines.items()},
            table=corrected_rows(dataset, music),
            name=name,
            version=VERSION,
        )
    )


def corrected_rows(dataset: Dataset, music: StoragePath | None) -> list[dict[str, Any]]:
    """Return `track`, `path`, `label`, `group`, `split` and `fold` of every track, for the table on the page.

    Paths are absolute, so that the table may be anywhere; relative to the music if its place is not known. A
    dataset of the table has the folds and official splits of this one, so scores before and after the correction
    can be compared.
    """
    rows: list[dict[str, Any]] = dataset.tracks().select(["track", "label", "group", "fold"]).to_pylist()
    official = {fold: part for part, fold in dataset.layout.official.items()}
    for row in rows:
        track = row["track"]
        row["split"] = official.get(row["fold"], "train")
        if row["split"] != "train":
            row["fold"] = None
        if music is not None:
            # The rows of a table may name files outside of its folder, by their absolute path or URI.
            row["path"] = track if "://" in track or os.path.isabs(track) else _below(music, track)
        else:
            row["path"] = f"./{track}" if track.startswith(_FORMULA) else track
    return rows


def _below(music: StoragePath, track: str) -> str:
    place = music.below(track)
    return place.path if place.local else place.stored


def _stripes(timeline: Sequence[int]) -> str:
    """Return a CSS gradient with a band in the color of each predicted class."""
    width = 100 / len(timeline)
    bands = [
        f"var(--class-{index}) {position * width:.2f}% {(position + 1) * width:.2f}%"
        for position, index in enumerate(timeline)
    ]
    return f"linear-gradient(to right, {', '.join(bands)})"
