"""Machines that lack something: the dataset and the predictions are those of any other machine, to the byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import contents

pytestmark = pytest.mark.matrix

ROOT = Path(__file__).parent.parent
SETTINGS = ["--set", "featurize.segments_per_track=4", "--set", "featurize.tracks_per_shard=3"]
# Commands that change a mount namespace of their own, and then run the rest of the command line.
FEW_FILES = ["bash", "-c", 'ulimit -n 256; exec "$@"', "bash"]
NO_SHARED_MEMORY = ["unshare", "-m", "bash", "-c", 'mount -t tmpfs -o size=4k none /dev/shm && exec "$@"', "bash"]
READ_ONLY = (
    f'for d in "{sys.prefix}" "{ROOT}"; do mount --bind "$d" "$d" && mount -o remount,bind,ro "$d" || exit 9; '
    'done; exec "$@"'
)
READ_ONLY_INSTALLATION = ["unshare", "-m", "bash", "-c", READ_ONLY, "bash"]
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NO_HOME = {"HOME": "/proc/none"}
MACHINES: dict[str, tuple[list[str], dict[str, str]]] = {
    "256 open files": (FEW_FILES, {}),
    "no shared memory": (NO_SHARED_MEMORY, {}),
    "no home and a read-only installation": (READ_ONLY_INSTALLATION, NO_HOME),
    "the locale C": ([], C_LOCALE),
    "an ASCII terminal": ([], {"PYTHONIOENCODING": "ascii"}),
    "a long TMPDIR": ([], {"TMPDIR": "long"}),
}


def run(machine: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    prefix, environment = MACHINES[machine]
    if "TMPDIR" in environment:
        folder = cwd.joinpath(*["t" * 50] * 3)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {"TMPDIR": str(folder)}
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"this machine does not permit: {machine}")
    command = [*prefix, sys.executable, "-m", "jobs.cli", *map(str, words)]
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR")}
    path = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=kept | path | environment, capture_output=True, text=True, cwd=cwd, timeout=500, check=False
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_a_dataset_has_the_same_bytes(machine, music, features, tmp_path):
    done = run(machine, "featurize", music, "--out", tmp_path / "features", *SETTINGS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = contents(tmp_path / "features")
    assert found.pop("config.yaml")
    assert found == contents(features)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob(".earmark-*"))


@pytest.mark.parametrize("machine", MACHINES)
def test_a_model_is_trained_and_used(machine, features, music, tmp_path):
    run_folder, sets = tmp_path / "run", ["train.model=modulation", "train.epochs=1", "train.device=cpu"]
    options = [word for value in sets for word in ("--set", value)]
    done = run(machine, "train", features, "--out", run_folder, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (run_folder / "report.html").is_file()
    for command in (["predict", run_folder, music / "bells"], ["status", run_folder]):
        done = run(machine, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert "Traceback" not in done.stderr
