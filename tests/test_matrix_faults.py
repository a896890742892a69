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


@pytest.mark.parametrize("verb", [*VERBS, "evaluate"])
def test_a_full_output_is_named_and_the_next_run_completes(verb, music, features, trained, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        command = {**commands(music, features, trained, disk), "evaluate": ["evaluate", disk / "run"]}[verb]
        free = 64 << 10
        if verb == "evaluate":
            shutil.copytree(trained, disk / "run")
            for written in ("report.html", "metrics.json"):  # they would make room
                (disk / "run" / written).unlink()
            shutil.rmtree(disk / "run" / "predictions.parquet")
            shutil.rmtree(disk / "run" / "tensorboard" / "final")
            free = 0
        used = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
        with contextlib.suppress(OSError):
            (tmp_path / "disk" / ".filler").write_bytes(bytes((8 << 20) - used - free))
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


def test_ten_thousand_tiny_files_are_each_rejected_by_name(music, tmp_path):
    root = tmp_path / "music"
    shutil.copytree(music, root)
    tiny = root / "bells" / "tiny-0.wav"
    tiny.write_bytes(b"RIFF")
    for number in range(1, 10_000):
        os.link(tiny, tiny.with_stem(f"tiny-{number}"))
    allow = ["--set", "featurize.max_reject_fraction=1", "--set", "featurize.group_by=none"]
    done = earmark("featurize", root, "--out", tmp_path / "features", *SETTINGS[:2], *allow)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr) < 20_000
    dataset = open_dataset(tmp_path / "features")
    rejects = dataset.rejects()
    assert rejects.num_rows == 10_000
    assert set(rejects["reason"].to_pylist()) == {"not decodable"}
    assert dataset.info.segments == 30 * 4
    assert earmark("verify", tmp_path / "features").returncode == 0


# Root without its capabilities is an ordinary user to whom the files of others are closed.
ORDINARY = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


@pytest.fixture
def ordinary() -> list[str]:
    if os.geteuid() or subprocess.run([*ORDINARY, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only root can change the owner of files and give up its capabilities")
    return [*ORDINARY, sys.executable, "-m", "jobs.cli"]


def run_as(command: list[str], *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def give_away(folder: Path, mode: int) -> None:
    """Give a folder to another user, with a mode for its folders; files are readable by everyone."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
        path.chmod(mode if path.is_dir() else 0o444)


def test_the_music_of_another_user_is_featurized_and_files_closed_to_us_are_named(
    ordinary, music, features, tmp_path
):
    root = tmp_path / "music"
    shutil.copytree(music, root)
    give_away(root, 0o755)
    done = run_as(ordinary, "featurize", root, "--out", tmp_path / "features", *SETTINGS)
    assert done.returncode == 0, done.stderr
    found = contents(tmp_path / "features")
    assert found.pop("config.yaml")
    assert found == contents(features)
    closed = root / "bells" / "0-0.mp3"
    closed.chmod(0o600)
    out = tmp_path / "other"
    done = run_as(ordinary, "featurize", root, "--out", out, *SETTINGS, "--set", "featurize.group_by=none")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    [reject] = open_dataset(out).rejects().to_pylist()
    assert (reject["path"], reject["stage"], reject["reason"]) == ("bells/0-0.mp3", "open", "unreadable")


def test_folders_of_another_user_are_named(ordinary, music, features, trained, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    give_away(theirs, 0o755)
    for words in (
        ["featurize", music, "--out", theirs / "features", *SETTINGS],
        ["train", features, "--out", theirs / "run", *TRAINING],
        ["export", trained, "--format", "keras", "--out", theirs / "model.keras"],
        ["compare", trained, trained, "--out", theirs / "compare.html"],
    ):
        done = run_as(ordinary, *words)
        assert done.returncode == 1
        assert "Permission denied" in done.stderr
        assert str(theirs) in done.stderr
        assert "Traceback" not in done.stderr
    done = run_as(ordinary, "featurize", music, "--out", tmp_path / "features", *SETTINGS, RAY_TMPDIR=str(theirs))
    assert done.returncode in (0, 1)
    if done.returncode:  # the path was short enough for Ray's sockets
        assert f"Ray cannot start on this machine: Permission denied ({theirs}" in done.stderr
    theirs.chmod(0o700)
    closed = run_as(ordinary, "featurize", theirs, "--out", tmp_path / "closed", *SETTINGS)
    assert closed.returncode == 1
    assert "Traceback" not in closed.stderr
    assert str(theirs) in closed.stderr
