"""Faults of disks, and odd names: a sentence, nothing partial, and the next run makes the same bytes."""

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support.command_line import contents, earmark
from support.disks import read_only, small_disk
from support.matrix import SETTINGS, TRAINING, check_whole, commands, leftovers, prepare

from featurize.dataset.dataset import open_dataset

pytestmark = pytest.mark.matrix

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


VERBS = ("featurize", "compact", "run", "train", "crossval", "evaluate", "export", "compare", "demo")  # that write


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_output_is_named(verb, music, features, quick_run, tmp_path):
    (tmp_path / "disk").mkdir()
    prepare(verb, features, quick_run, tmp_path / "disk")
    with read_only(tmp_path / "disk") as disk:
        done = earmark(*commands(music, features, quick_run, disk)[verb])
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert str(disk) in done.stderr
    assert "Traceback" not in done.stderr


def check_features(folder: Path, features: Path) -> None:
    found = contents(folder)
    assert found.pop("config.yaml")
    assert found == contents(features)


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_output_is_named_and_the_next_run_completes(verb, music, features, quick_run, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        command = commands(music, features, quick_run, disk)[verb]
        prepare(verb, features, quick_run, disk)
        if verb == "evaluate":
            for written in ("report.html", "metrics.json"):  # they would make room
                (disk / "run" / written).unlink()
            shutil.rmtree(disk / "run" / "predictions.parquet")
            shutil.rmtree(disk / "run" / "tensorboard" / "final")
        used = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
        free = 0 if verb in ("evaluate", "compare") else 64 << 10
        with contextlib.suppress(OSError):
            (disk / ".filler").write_bytes(bytes((8 << 20) - used - free))
        done = earmark(*command)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        check_whole(disk)
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        done = earmark(*command)
        assert done.returncode == 0, done.stderr
        check_whole(disk)
        assert not leftovers(disk)
        if verb == "featurize":
            check_features(disk / "features", features)


@pytest.mark.parametrize("verb", [*VERBS, "predict", "verify"])
def test_a_full_folder_for_temporary_files_is_named_or_not_needed(
    verb, music, features, quick_run, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    out.mkdir()
    prepare(verb, features, quick_run, out)
    command = commands(music, features, quick_run, out)[verb]
    with small_disk(tmp_path / "small", "1m") as small:
        with contextlib.suppress(OSError):
            (small / "filler").write_bytes(bytes(2 << 20))
        monkeypatch.setenv("TMPDIR", str(small))
        done = earmark(*command)
        print(f"{verb}: {done.returncode} {done.stderr[-300:]}")
        monkeypatch.undo()
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert done.returncode == 1
            assert "No space left on device" in done.stderr or str(small) in done.stderr
        assert not leftovers(small)
    check_whole(out)
    (out / "model.keras").unlink(missing_ok=True)  # an export replaces nothing
    done = earmark(*command)
    assert done.returncode == 0, done.stderr
    if verb == "featurize":
        check_features(out / "features", features)


@pytest.mark.parametrize("free_kib", [16, 300, 1000, 8000])
def test_a_full_folder_of_ray_is_named_or_large_enough(free_kib, music, features, tmp_path, monkeypatch):
    out = tmp_path / "features"
    command = ["featurize", music, "--out", out, *SETTINGS]
    with tempfile.TemporaryDirectory(prefix="em", dir="/tmp") as short, small_disk(Path(short), "8m") as small:
        (small / "filler").write_bytes(bytes((8192 - free_kib) << 10))
        monkeypatch.setenv("RAY_TMPDIR", str(small))
        done = earmark(*command)
        monkeypatch.undo()
        print(f"{free_kib} KiB: {done.returncode} {done.stderr[-300:]}")
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1)
        assert done.returncode == 0 or str(small) in done.stderr
        assert os.listdir(small) == ["filler"]
    assert earmark(*command).returncode == 0
    check_features(out, features)


# What a command has written some time before its end.
WRITTEN = {
    "featurize": "features/tracks.parquet",
    "run": "run/features/tracks.parquet",
    "train": "run/checkpoints",
    "crossval": "folds/fold=0/run.json",
    "demo": "demo/music/bells/001.mp3",
}


@pytest.mark.parametrize("verb", WRITTEN)
def test_an_output_that_is_removed_during_the_run_is_made_again_by_the_next(
    verb, music, features, quick_run, tmp_path
):
    moments = random.Random(f"removed {verb}")
    words = commands(music, features, quick_run, tmp_path)[verb]
    written = tmp_path / WRITTEN[verb]
    command = [sys.executable, "-m", "jobs.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None and not written.exists():
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1))
        shutil.rmtree(tmp_path / WRITTEN[verb].split("/")[0], ignore_errors=True)
        _, stderr = running.communicate(timeout=300)
    print(f"{verb}: {running.returncode} {stderr[-300:]}")
    assert "Traceback" not in stderr
    assert running.returncode in (0, 1)
    check_whole(tmp_path)
    done = earmark(*words)
    if refused := re.search(r"(/.*) holds tensorboard and no run", done.stderr):
        shutil.rmtree(refused[1])  # curves that were begun at the moment of the removal
        done = earmark(*words)
    assert done.returncode == 0, done.stderr
    check_whole(tmp_path)
    assert not leftovers(tmp_path)
    if verb == "featurize":
        check_features(tmp_path / "features", features)


def test_odd_names_are_featurized_and_predicted(music, quick_run, tmp_path):
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
        ["predict", quick_run, root / "bells"],
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
    check_features(tmp_path / "features", features)
    closed = root / "bells" / "0-0.mp3"
    closed.chmod(0o600)
    out = tmp_path / "other"
    done = run_as(ordinary, "featurize", root, "--out", out, *SETTINGS, "--set", "featurize.group_by=none")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    [reject] = open_dataset(out).rejects().to_pylist()
    assert (reject["path"], reject["stage"], reject["reason"]) == ("bells/0-0.mp3", "open", "unreadable")


def test_folders_of_another_user_are_named(ordinary, music, features, quick_run, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    give_away(theirs, 0o755)
    for words in (
        ["featurize", music, "--out", theirs / "features", *SETTINGS],
        ["train", features, "--out", theirs / "run", *TRAINING],
        ["export", quick_run, "--format", "keras", "--out", theirs / "model.keras"],
        ["compare", quick_run, quick_run, "--out", theirs / "compare.html"],
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
