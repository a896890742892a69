import json
import re
from pathlib import Path

import pytest

from featurize.config import FeaturizeConfig
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.info import DEFAULT_LAYOUT, DatasetInfo, FoldLayout, read_info
from featurize.dataset_build.inference_features import supported_settings
from featurize.errors import DatasetError, FeaturizeError
from featurize.planning.shard_plan import feature_settings, fingerprint
from featurize.storage import StoragePath

SETTINGS = feature_settings(FeaturizeConfig())
STORED = {
    "format": 3,
    "id": "0123456789abcdef",
    "plan": "fedcba9876543210",
    "classes": ["bells", "réeds"],
    "settings": {
        "sample_rate": 22050,
        "n_mfcc": 40,
        "n_fft": 2048,
        "hop_length": 512,
        "n_mels": 128,
        "top_db": 80.0,
        "segment_samples": 110592,
        "segments_per_track": 12,
        "excerpt_seconds": None,
        "excerpt_position": "start",
        "max_seconds": 14400.0,
    },
    "tracks": 3,
    "segments": 24,
    "rejects": [{"stage": "open", "reason": "missing", "tracks": 1}],
    "duplicates": 0,
    "counts": [
        {"label": "bells", "fold": 0, "tracks": 1, "groups": 1, "segments": 12},
        {"label": "réeds", "fold": 4, "tracks": 1, "groups": 1, "segments": 12},
    ],
    "statistics": [
        {"fold": 0, "frames": 2604, "mean": [0.1, -3e-17] * 20, "deviation": [1.0, 2.5] * 20},
        {"fold": 4, "frames": 2604, "mean": [-80.5] * 40, "deviation": [0.0] * 40},
    ],
    "versions": {"earmark": "0.1.0"},
}


def _stored(folder: Path, content: object) -> StoragePath:
    (folder / "dataset.json").write_text(json.dumps(content))
    return StoragePath.of(folder)


def test_feature_settings_have_fixed_keys_in_fixed_order():
    assert json.dumps(SETTINGS.model_dump()) == json.dumps(STORED["settings"])
    assert fingerprint(SETTINGS, [["a.mp3", "bells", 0, 7]]) == "00c1446f73866f05"


def test_reading_and_encoding_preserves_the_bytes(tmp_path):
    info = read_info(_stored(tmp_path, STORED))
    assert info.settings == SETTINGS
    assert info.counts[1].label == "réeds"
    assert info.encode().decode() == json.dumps(STORED, indent=2, ensure_ascii=False) + "\n"


def test_the_layout_of_the_folds_is_stored_unless_it_is_the_default(tmp_path):
    assert read_info(_stored(tmp_path, STORED)).layout == DEFAULT_LAYOUT
    items = list(STORED.items())
    items.insert(9, ("folds", {"training": [0, 2], "validation": None, "test": 4}))
    info = read_info(_stored(tmp_path, dict(items)))
    assert info.layout == FoldLayout(training=[0, 2], test=4)
    assert [info.layout.name_of(fold) for fold in (2, 4)] == ["fold 2", "test split"]
    assert info.encode().decode() == json.dumps(dict(items), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("folds", "problem"),
    [
        ({"training": [0, 4], "test": 4}, "a fold has two purposes"),
        ({"training": [4, 0]}, "the training folds are not in ascending order"),
        ({"training": [0]}, "there is one fold, so none to test on"),
        ({"training": [0, 1]}, "folds lacks fold 4, which has tracks"),
        ({"training": [0, 20]}, "folds.training.1 is 20, expected less than 20"),
        ({"training": [0], "test": 22}, "folds.test is 22, expected less than 22"),
    ],
)
def test_an_impossible_layout_is_an_error(folds, problem, tmp_path):
    with pytest.raises(DatasetError, match=re.escape(problem)):
        read_info(_stored(tmp_path, {**STORED, "folds": folds}))


def test_a_missing_file_is_none(tmp_path):
    assert read_info(StoragePath.of(tmp_path)) is None
    assert read_info(StoragePath.of(tmp_path / "absent")) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda info: info.pop("classes"), "classes is missing"),
        (lambda info: info.update(genre=1), "genre is not a known key"),
        (lambda info: info["settings"].pop("n_fft"), "settings.n_fft is missing"),
        (lambda info: info["settings"].update(window="hann"), "settings.window is not a known key"),
        (lambda info: info.update(tracks="3"), "tracks is '3', expected a valid integer"),
        (lambda info: info["counts"][1].pop("label"), "counts.1.label is missing"),
        (lambda info: info["statistics"][0].update(mean=None), "statistics.0.mean is None, expected a valid list"),
    ],
)
def test_an_invalid_key_is_an_error_that_names_key_and_file(change, problem, tmp_path):
    content = json.loads(json.dumps(STORED))
    change(content)
    with pytest.raises(DatasetError) as caught:
        read_info(_stored(tmp_path, content))
    assert str(caught.value) == (
        f"{tmp_path / 'dataset.json'} is not as Earmark writes it: {problem}. "
        f"Type: earmark featurize MUSIC --out {tmp_path}"
    )


def test_many_invalid_keys_are_counted(tmp_path):
    with pytest.raises(DatasetError, match=r"id is missing; plan is missing; .*; and 6 more\. Give the folder"):
        read_info(_stored(tmp_path, {"format": 3}))


@pytest.mark.parametrize("content", [[], {}, {"format": 2}])
def test_another_format_is_an_error(content, tmp_path):
    with pytest.raises(
        DatasetError,
        match=r"has format .*; this version of Earmark reads format 3\. Featurize again, into",
    ):
        read_info(_stored(tmp_path, content))


def test_stored_models_are_frozen():
    info = DatasetInfo.model_validate(STORED)
    with pytest.raises(ValueError, match="frozen"):
        info.tracks = 4


def test_supported_settings_of_a_model_are_accepted():
    features = {**STORED["settings"], "segments_per_track": 3, "excerpt_seconds": 6.0}
    found = supported_settings(features)
    assert found == SETTINGS.model_copy(update={"segments_per_track": 3, "excerpt_seconds": 6.0})
    assert isinstance(found, FeatureSettings)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"n_fft": 1023}, "n_fft = 1023 is odd, expected an even number of samples"),
        ({"window": "hann"}, "window is not a known key"),
        ({"excerpt_position": "end"}, "excerpt_position is 'end', expected 'start' or 'middle'"),
    ],
)
def test_unsupported_settings_of_a_model_are_an_error(change, problem):
    with pytest.raises(
        FeaturizeError, match="the model was trained on features that this version of Earmark"
    ) as caught:
        supported_settings({**STORED["settings"], **change})
    assert problem in str(caught.value)
