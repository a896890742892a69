"""Faults of disks, and odd names: a sentence, nothing partial, and the next run makes the same bytes."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command_line import contents, earmark
from support.disks import read_only, small_disk

from featurize.dataset.dataset import open_dataset

pytestmark = pytest.mark.matrix

SETTINGS = ["--set", "featurize.segments_per_track=4", "--set", "featurize.tracks_per_shard=3"]
TRAINING = ["--set", "train.model=modulation", "--set", "train.epochs=1", "--set", "train.device=cpu"]
ODD_NAMES = (
    "a b.flac",
    "'quoted' \"twice\".flac",
    "two\nlines.flac",
    "\x1b[2J.flac",
    "-x.flac",
    "$HOME `id`;#&.flac",
    "100%41?.flac",
    f"{'é' * 125}.flac",  # 255 bytes
    " .flac",
    "e\u0301 \u202e.flac",
)


@pytest.fixture(scope="module")
def trained(features, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    done = earmark("train", features, "--out", run, *TRAINING)
    assert done.returncode == 0, done.stderr
    return run


def commands(music: Path, features: Path, trained: Path, out: Path) -> dict[str, list[object]]:
    """Return a command line of each verb that writes, by verb."""
    return {
        "featurize": ["featurize", music, "--out", out / "features", *SETTINGS],
        "run": ["run", music, "--out", out / "run", *SETTINGS, *TRAINING],
        "train": ["train", features, "--out", out / "train", *TRAINING],
        "crossval": ["crossval", features, "--out", out / "folds", *TRAINING],
        "export": ["export", trained, "--format", "keras", "--out", out / "model.keras"],
        "compare": ["compare", trained, trained, "--out", out / "compare.html"],
        "demo": ["demo", "--out", out / "demo"],
    }


VERBS = ("featurize", "run", "train", "crossval", "export", "compare", "demo")


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_output_is_named(verb, music, features, trained, tmp_path):
    with read_only(tmp_path / "disk") as disk:
        done = earmark(*commands(music, features, trained, disk)[verb])
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert str(disk) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["train", "crossval", "export", "compare"])
def test_a_full_output_is_named_and_the_next_run_completes(verb, music, features, trained, tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        command = commands(music, features, trained, disk)[verb]
        done = earmark(*command)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        done = earmark(*command)
        assert done.returncode == 0, done.stderr
        assert not list(disk.rglob(".earmark-*"))


@pytest.mark.parametrize("verb", ["featurize", "train", "predict"])
def test_a_full_folder_for_temporary_files_is_named_or_not_needed(
    verb, music, features, trained, tmp_path, monkeypatch
):
    command = commands(music, features, trained, tmp_path) | {"predict": ["predict", trained, music / "bells"]}
    with small_disk(tmp_path / "small", "1m") as small:
        with contextlib.suppress(OSError):
            (small / "filler").write_bytes(bytes(2 << 20))
        monkeypatch.setenv("TMPDIR", str(small))
        done = earmark(*command[verb])
    monkeypatch.undo()
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 1
        assert "No space left on device" in done.stderr or str(small) in done.stderr
    assert earmark(*command[verb]).returncode == 0
    if verb == "featurize":
        found = contents(tmp_path / "features")
        assert found.pop("config.yaml")
        assert found == contents(features)


def test_an_output_that_is_removed_during_the_run_is_made_again_by_the_next(music, features, tmp_path):
    out = tmp_path / "features"
    command = [sys.executable, "-m", "jobs.cli", "featurize", str(music), "--out", str(out), *SETTINGS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None and not (out / "tracks.parquet").exists():
            time.sleep(0.01)
        shutil.rmtree(out, ignore_errors=True)
        _, stderr = running.communicate(timeout=300)
    assert "Traceback" not in stderr
    assert running.returncode in (0, 1)
    done = earmark(*command[3:])
    assert done.returncode == 0, done.stderr
    found = contents(out)
    assert found.pop("config.yaml")
    assert found == contents(features)


def test_odd_names_are_featurized_and_predicted(music, trained, tmp_path):
    root = tmp_path / "odd 'music'\n#1"
    for label in ("bells", "reeds"):
        (root / label).mkdir(parents=True)
        for name in ODD_NAMES:
            shutil.copy(music / label / "1-0.flac", root / label / name)
    ungrouped = ["--set", "featurize.group_by=none"]  # all are copies of one artist's tracks
    done = earmark("featurize", root, "--out", root / "out put", *SETTINGS, *ungrouped, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(
        os.path.basename(track) for track in open_dataset(root / "out put").tracks()["track"].to_pylist()
    ) == (sorted([*ODD_NAMES, *ODD_NAMES]))
    for command in (
        ["verify", root / "out put"],
        ["status", root / "out put"],
        ["predict", trained, root / "bells"],
    ):
        done = earmark(*command)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
