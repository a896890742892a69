"""Nothing in the working directory runs: it may be a folder of music from strangers, with any file in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import contents, earmark
from support.default_features import SETTINGS

from featurize.audio.filters import Filters
from featurize.execution.child_process import ChildProcess
from featurize.execution.import_path import own_path
from jobs.requirements import refuse_overwritten_package

ROOT = Path(__file__).parent.parent
# Of the standard library, of Earmark and of what they import, also in workers, agents and child processes.
SHADOWED = (
    *("asyncio", "concurrent", "ctypes", "json", "logging", "multiprocessing", "pickle", "random", "socket"),
    *("subprocess", "tempfile", "threading", "uuid", "aiohttp", "av", "click", "cloudpickle", "filelock", "grpc"),
    *("jinja2", "joblib", "keras", "librosa", "matplotlib", "numba", "numpy", "packaging", "psutil"),
    *(
        "pyarrow",
        "pydantic",
        "ray",
        "rich",
        "scipy",
        "setproctitle",
        "sitecustomize",
        "sklearn",
        "soundfile",
        "soxr",
    ),
    *("tensorboard", "tensorflow", "typer", "usercustomize", "yaml", "configs", "featurize", "jobs", "train"),
)
# The console script of an installation: its own folder goes first on the path, not the working directory.
SCRIPT = 'import sys\nfrom jobs.cli import main\nif __name__ == "__main__":\n    sys.exit(main())\n'


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A folder in which every module that is imported writes its name into `imported`."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    marker = tmp_path / "imported"
    code = f"open({str(marker)!r}, 'a').write(__name__ + '\\n')\nraise ImportError('shadow')\n"
    for name in SHADOWED:
        (folder / f"{name}.py").write_text(code)
    # So that child processes find the functions of this module.
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))
    )
    # Settings that name code: numba loads cached functions from this folder, matplotlib calls LaTeX.
    (folder / ".numba_config.yaml").write_text("cache_dir: cache\ndisable_jit: 1\n")
    (folder / "matplotlibrc").write_text("text.usetex: True\n")
    yield folder
    assert not marker.exists(), marker.read_text()
    assert {path.stem for path in folder.glob("*.py")} == set(SHADOWED)
    assert not (folder / "__pycache__").exists()


@pytest.fixture
def script(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "earmark").write_text(SCRIPT)

    def call(*arguments, cwd):
        command = [sys.executable, folder / "earmark", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=900, check=False)
        assert done.returncode == 0, done.stderr
        return done

    return call


def numba_settings():
    Filters.from_librosa(SETTINGS)
    from numba.core import config

    return config.CACHE_DIR, config.DISABLE_JIT


@pytest.mark.parametrize("command", ["--version", "--help", "config"])
def test_commands_without_a_child_process(command, hostile, script):
    assert script(command, cwd=hostile).stdout


def test_python_m_finds_the_libraries_of_its_installation(hostile):
    # A folder called `jobs` would be found before anything of ours can act.
    for name in ("jobs", "featurize", "train", "configs"):
        (hostile / f"{name}.py").unlink()
    done = earmark("config", cwd=hostile)
    for name in ("jobs", "featurize", "train", "configs"):
        (hostile / f"{name}.py").write_text("")
    assert done.returncode == 0, done.stderr


def test_an_empty_entry_of_pythonpath_is_not_the_working_directory(hostile, script, monkeypatch):
    # Python itself imports these two before any of our code, and `jobs` is first where the installation is first.
    for name in ("sitecustomize", "usercustomize"):
        (hostile / f"{name}.py").write_text("")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # for these two
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}")
    assert script("config", cwd=hostile).stdout


def test_a_child_process_imports_librosa_and_ignores_settings_of_numba(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    with ChildProcess(Filters.from_librosa, SETTINGS) as child:
        kind, filters = child.receive(120)
    assert kind == "returned", filters
    with ChildProcess(numba_settings) as child:
        assert child.receive(120) == ("returned", ("", 0))


def test_a_child_process_finds_an_installation_that_only_its_parent_has_on_the_path(tmp_path, music):
    # As of a program that was started in a checkout which is not installed, and then went elsewhere.
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); os.chdir({str(tmp_path)!r})\n"
        "from featurize.execution.child_process import ChildProcess\n"
        "from featurize.version import VERSION\n"
        "with ChildProcess(str, VERSION) as child: print(child.receive(60))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=True)
    assert "returned" in done.stdout


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in PYTHONPATH whose modules have the names of our packages, and write when they are imported."""
    folder = tmp_path / "project"
    folder.mkdir()
    marker = tmp_path / "imported"
    for name in ("train", "jobs", "featurize", "configs"):
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write(__name__ + '\\n')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT), str(ROOT / "tests")]))
    yield folder
    assert not marker.exists(), marker.read_text()


def start(*arguments, cwd):
    command = [sys.executable, "-m", "earmark", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def test_modules_with_our_names_in_pythonpath_are_not_imported(project):
    done = start("config", cwd=project)
    assert done.returncode == 0, done.stderr
    with ChildProcess(own_path) as child:
        expected = os.pathsep.join(map(str, (ROOT, project, ROOT / "tests")))
        assert child.receive(60) == ("returned", {"PYTHONPATH": expected})


def test_pythonpath_is_unchanged_without_such_modules(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert own_path() == {}


def test_a_module_with_such_a_name_that_is_imported_already_is_named(project):
    (project / "other.py").write_text("")
    (project / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('train', {str(project / 'other.py')!r})\n"
        "sys.modules['train'] = importlib.util.module_from_spec(spec)\n"
    )
    done = start("config", cwd=project.parent)
    assert done.returncode == 1
    assert f"imported {str(project / 'other.py')!r} under the name train" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_another_distribution_has_overwritten_is_named(monkeypatch):
    owners = {"train": ["earmark", "train-tickets"], "requests": ["requests"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: owners)
    refuse_overwritten_package(ModuleNotFoundError(name="requests.api"))
    with pytest.raises(SystemExit, match=r"train\.config is missing in .* train-tickets has files there, too"):
        refuse_overwritten_package(ModuleNotFoundError(name="train.config"))


@pytest.mark.slow
def test_ray_workers_find_our_packages_in_spite_of_pythonpath(project, music, tmp_path):
    done = start("featurize", music, "--out", tmp_path / "out", "--workers", 2, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "30 tracks" in done.stderr


@pytest.mark.matrix
def test_ray_workers_and_every_command_on_a_run(hostile, script, music, tmp_path):
    out, quick = tmp_path / "out", ["--set", "train.epochs=1"]
    script("run", music, "--out", out / "run", "--workers", 2, *quick, cwd=hostile)
    features = out / "run" / "features"
    script("verify", features, cwd=hostile)
    script("train", features, "--out", out / "other", *quick, cwd=hostile)
    script("evaluate", out / "other", cwd=hostile)
    script("status", out / "other", cwd=hostile)
    script("compare", out / "run", out / "other", "--out", out / "comparison.html", cwd=hostile)
    script("export", out / "run", "--format", "keras", "--out", out / "model.keras", cwd=hostile)
    done = script("predict", out / "run", music / "bells" / "0-0.mp3", "--format", "json", cwd=hostile)
    assert '"rejects": []' in done.stdout
    script("predict", out / "run", music, cwd=hostile)  # more files, on Ray workers
    script("featurize", music, "--out", out / "elsewhere", *quick, cwd=tmp_path)
    assert contents(features) == contents(out / "elsewhere")


@pytest.mark.matrix
def test_the_processes_that_compose_the_demo(hostile, script, tmp_path):
    script("demo", "--out", tmp_path / "demo", cwd=hostile)
