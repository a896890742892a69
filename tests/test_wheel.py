"""The package as pip installs it, without the checkout: everything that a run needs is in the wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():  # building must not write into the checkout
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True, timeout=120
    )
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_has_every_file_of_the_packages(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "featurize", "train", "jobs", "configs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    expected = {name for name in tracked if (ROOT / name).is_file() and "Dockerfile" not in name}
    packed = set(zipfile.ZipFile(wheel).namelist())
    missing = {name for name in expected - packed if not name.startswith("jobs/") or name.endswith(".py")}
    assert not missing
    assert not [name for name in packed if name.startswith(("tests", "benchmarks"))]


@pytest.mark.slow
def test_an_installed_wheel_runs_in_another_folder(wheel, music, tmp_path):
    """Its dependencies are those of the tests; the environment of `make demo` has the same versions."""
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--target", installed, wheel], check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    code = "import featurize, jobs, train; print(featurize.__file__, jobs.__file__, train.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.count(str(installed)) == 3
    settings = ["--set", "train.epochs=1", "--set", "train.batch_size=16"]
    done = subprocess.run(
        [installed / "bin" / "earmark", "run", music, "--out", "run", *settings],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000
    assert "site-packages/featurize" not in done.stderr
