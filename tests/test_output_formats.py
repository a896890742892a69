"""Predictions that are not sure enough are said to be so, in each format."""

import csv
import io
import json

import numpy as np
import pytest
from support.command_line import earmark

from jobs.inference.output_formats import FORMATS
from jobs.inference.predict import PredictionResults, TrackPrediction

RESULTS = PredictionResults(
    ["jazz", "punk"],
    [
        TrackPrediction("sure.mp3", np.array([0.0]), np.array([[0.9, 0.1]])),
        TrackPrediction("open.mp3", np.array([0.0]), np.array([[0.45, 0.55]])),
    ],
    [],
)


def test_a_table_says_unsure_before_the_genres():
    lines = FORMATS["table"](RESULTS, 2, False, 0.6).splitlines()
    assert lines == ["sure.mp3  jazz 0.900  punk 0.100", "open.mp3  unsure  punk 0.550  jazz 0.450"]
    assert "unsure" not in FORMATS["table"](RESULTS, 2, False)


def test_json_and_csv_have_a_field():
    tracks = json.loads(FORMATS["json"](RESULTS, 2, False, 0.6))["tracks"]
    assert [track["unsure"] for track in tracks] == [False, True]
    assert "unsure" not in FORMATS["json"](RESULTS, 2, False)
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](RESULTS, 1, False, 0.6))))
    assert [row["unsure"] for row in rows] == ["false", "true"]
    assert [row["label_1"] for row in rows] == ["jazz", "punk"]
    assert "unsure" not in FORMATS["csv"](RESULTS, 1, False)


@pytest.mark.parametrize("value", ["1.5", "-1", "many"])
def test_a_confidence_is_from_0_to_1(value, tmp_path):
    done = earmark("predict", tmp_path, tmp_path, "--min-confidence", value)
    assert done.returncode == 2
    assert "--min-confidence" in done.stderr


def test_answers_in_a_folder_are_filtered_by_their_column(tmp_path):
    done = earmark("predict", tmp_path, tmp_path, "--out", tmp_path / "answers", "--min-confidence", "0.5")
    assert done.returncode == 2
    assert "filter the column probability" in done.stderr
