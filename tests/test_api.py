"""The Python API: the same results as the command line, typed objects, errors, and examples that run."""

import pickle
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import earmark
from train.config import TrainConfig

ROOT = Path(__file__).parent.parent
QUICK = {"model": "modulation", "epochs": 1, "batch_size": 16, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def dataset(features, logical_cpus):  # which must be set up before TensorFlow reads a batch
    return earmark.open(features)


def test_a_batch_has_at_least_one_segment(dataset):
    for size in (0, -1):
        for read in (dataset.batches, dataset.tf):
            with pytest.raises(ValueError, match=f"batch_size = {size}, expected 1 or more"):
                next(iter(read(batch_size=size)))
    assert len(dataset.numpy(fold for fold in dataset.folds)[0]) == len(dataset)


def test_importing_it_imports_no_library():
    code = "import sys, earmark; print({m.split('.')[0] for m in sys.modules}); earmark.TrainConfig"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("numpy", "pyarrow", "pydantic", "ray", "tensorflow", "keras", "librosa", "typer"):
        assert f"'{heavy}'" not in loaded


def test_modules_of_the_callers_project_are_not_taken_for_earmarks(features, tmp_path):
    for name in ("train", "jobs", "featurize", "configs"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('another module was imported')")
    code = f"import earmark; print(len(earmark.open({str(features)!r})), earmark.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("120 ")
    (tmp_path / "train.py").write_text("")
    code = f"import train, earmark; earmark.open({str(features)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "ImportError: Python has imported other modules under the names of Earmark's packages" in done.stderr


def test_its_names_are_there_and_others_are_not():
    assert sorted(earmark.__all__) == earmark.__all__
    for name in earmark.__all__:
        assert getattr(earmark, name) is not None
    with pytest.raises(AttributeError, match="it has Dataset, "):
        _ = earmark.nothing
    assert issubclass(earmark.TrainError, earmark.EarmarkError)
    assert issubclass(earmark.DatasetError, earmark.EarmarkError)
    assert issubclass(earmark.FeaturizeError, earmark.EarmarkError)


def test_a_dataset_says_what_it_has(dataset):
    assert dataset.classes == ["bells", "pulses", "reeds"]
    assert dataset.folds == [0, 1, 2, 3, 4]
    assert dataset.shape == (40, 217)
    assert dataset.settings.sample_rate == 22050
    assert dataset.tracks.num_rows == 30
    assert dataset.rejects.num_rows == 0
    assert len(dataset) == 120
    assert "120 segments of 3 classes" in repr(dataset)


def test_numpy_has_the_stored_rows(dataset):
    from featurize.dataset.reader import read_row_group

    features, labels = dataset.numpy(folds=[1, 3])
    shards = dataset._dataset.in_folds({1, 3})
    expected = [read_row_group(shard, index) for shard in shards for index in range(len(shard.row_groups))]
    np.testing.assert_array_equal(features, np.concatenate([rows for rows, _ in expected]))
    np.testing.assert_array_equal(labels, np.concatenate([labels for _, labels in expected]))
    assert len(dataset.numpy()[1]) == 120


def test_batches_are_those_of_the_trainer(dataset, features):
    from featurize.dataset.dataset import open_dataset
    from train.input.training_stream import training_stream

    config = TrainConfig(batch_size=16, seed=3, shuffle_window=40, test_fold=0, validation_fold="none")
    stream = training_stream(open_dataset(features), config)
    options = {"folds": [1, 2, 3, 4], "batch_size": 16, "seed": 3, "epochs": 2, "shuffle_window": 40}
    found = list(dataset.batches(**options))
    assert len(found) == 2 * stream.steps_per_epoch
    for step, (rows, labels) in enumerate(found):
        expected = stream.batch(step)
        np.testing.assert_array_equal(rows, expected[0])
        np.testing.assert_array_equal(labels, expected[1])
    by_tensorflow = list(dataset.tf(**options).as_numpy_iterator())
    assert len(by_tensorflow) == len(found)
    for (rows, labels), (tensors, indices) in zip(found, by_tensorflow, strict=True):
        np.testing.assert_array_equal(rows, tensors)
        np.testing.assert_array_equal(labels, indices)


def test_every_other_batch_is_read_alone_by_another_process(dataset):
    """What a worker of a PyTorch DataLoader gets, pickled."""
    expected = list(dataset.batches(batch_size=16, epochs=2))
    read = pickle.loads(pickle.dumps(partial(dataset._every, None, 16, 0, 2, 32_768)))
    for first in range(2):
        found = list(read(first=first, every=2))
        assert len(found) == len(expected[first::2])
        for (rows, labels), (others, indices) in zip(expected[first::2], found, strict=True):
            np.testing.assert_array_equal(rows, others)
            np.testing.assert_array_equal(labels, indices)


def test_torch_reads_the_same_batches_or_says_what_to_install(dataset):
    try:
        import torch
    except ImportError:
        with pytest.raises(ImportError, match="pip install torch"):
            dataset.torch()
        return
    expected = list(dataset.batches(batch_size=16))
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(dataset.torch(batch_size=16), batch_size=None, num_workers=workers)
        found = [(rows.numpy(), labels.numpy()) for rows, labels in loader]
        assert len(found) == len(expected)
        if not workers:
            for (rows, labels), (others, indices) in zip(expected, found, strict=True):
                np.testing.assert_array_equal(rows, others)
                np.testing.assert_array_equal(labels, indices)


@pytest.mark.parametrize("folds", [[9], [], [0, 7]])
def test_folds_that_do_not_exist_are_refused(dataset, folds):
    with pytest.raises(earmark.DatasetError, match=r"it has \[0, 1, 2, 3, 4\]"):
        dataset.numpy(folds=folds)


def test_errors_are_earmarks_own(tmp_path):
    with pytest.raises(earmark.DatasetError):
        earmark.open(tmp_path)
    with pytest.raises(earmark.TrainError):
        earmark.load(tmp_path)
    with pytest.raises(earmark.FeaturizeError):
        earmark.featurize(tmp_path / "nothing", tmp_path / "features")
    with pytest.raises(ValueError, match="epochs"):
        earmark.train(tmp_path, tmp_path / "run", {"epochs": 0})


def test_training_and_prediction_are_those_of_the_command_line(features, music, tmp_path, logical_cpus):
    from earmark.progress import CallbackReporter
    from featurize.storage import StoragePath
    from jobs.inference.predict import predict

    epochs, steps = [], []
    model = earmark.train(
        features,
        tmp_path / "run",
        QUICK,
        on_step=lambda done, total: steps.append((done, total)),
        on_epoch=lambda record, total: epochs.append((record.epoch, total)),
    )
    assert epochs == [(1, 1)]
    assert steps[-1][0] == steps[-1][1] > 0
    assert model.metrics.tracks.count == 6
    assert model.classes == ["bells", "pulses", "reeds"]
    assert model.keras.input_shape == (None, 40, 217)
    assert model.features["n_mfcc"] == 40
    files = sorted(music.rglob("*.*"))[:3]
    (tmp_path / "notes.mp3").write_text("no music")
    seen = []
    found = model.predict(
        [*files, tmp_path / "notes.mp3"], on_tracks=lambda done, total: seen.append((done, total))
    )
    assert [track.path for track in found.tracks] == [str(file) for file in files]
    assert [path for path, _ in found.rejects] == [str(tmp_path / "notes.mp3")]
    assert seen[-1] == (4, 4)
    expected = predict(StoragePath.of(tmp_path / "run"), [str(file) for file in files], None, CallbackReporter())
    for track, other in zip(found.tracks, expected.tracks, strict=True):
        assert list(track.probabilities) == model.classes
        np.testing.assert_array_equal(list(track.probabilities.values()), other.track)
        assert track.probability == max(track.probabilities.values())
        assert track.label == max(track.probabilities, key=track.probabilities.get)
        assert [start for start, _ in track.segments] == other.starts.tolist()
    again = earmark.load(tmp_path / "run").predict(files[0])
    assert again.tracks[0].probabilities == found.tracks[0].probabilities


def test_featurizing_makes_the_dataset_of_the_command_line(music, features, ray_here, tmp_path):
    from support.command_line import contents

    seen = []
    settings = earmark.FeaturizeConfig(tracks_per_shard=3, segments_per_track=4)
    made = earmark.featurize(
        music, tmp_path / "features", settings, on_tracks=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (30, 30)
    assert len(made) == 120
    found = contents(tmp_path / "features")
    found.pop("config.yaml")
    assert found == contents(features)


def test_python_m_earmark_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "earmark", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("earmark ")


def examples() -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / "docs" / "api.md").read_text())


def test_every_name_of_the_api_is_in_its_page():
    text = (ROOT / "docs" / "api.md").read_text()
    assert not [name for name in earmark.__all__ if f"`earmark.{name}" not in text]
    for kind in (earmark.Dataset, earmark.Model):
        public = [name for name in vars(kind) if not name.startswith("_")]
        assert not [name for name in public if f"`{name}" not in text]


@pytest.mark.slow
def test_the_examples_of_the_page_run(music, tmp_path):
    """One after another in one process, in a folder with music."""
    (tmp_path / "music").symlink_to(music)
    script = "\n".join(examples())
    assert script.count("earmark.") >= 3
    done = subprocess.run(
        [sys.executable, "-c", f"if __name__ == '__main__':\n{re.sub('(?m)^', '    ', script)}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
