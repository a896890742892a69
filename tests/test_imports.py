"""Imports go in one direction, and heavy libraries are imported only by the modules that need them."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("featurize", "train", "jobs", "earmark")
MODULES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}

COMMANDS = (
    "run",
    "featurize",
    "compact",
    "status",
    "verify",
    "train",
    "crossval",
    "tune",
    "evaluate",
    "export",
    "compare",
    "labels",
    "card",
    "report",
    "predict",
    "embed",
    "submit",
    "config",
    "doctor",
    "demo",
)


def imported(path: Path) -> set[str]:
    """Return every module that a file imports, also inside functions: `a.b` for `from a.b import c`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_in_one_direction(module):
    path = MODULES[module]
    package = module.split(".")[0]
    forbidden = {
        "featurize": {"train", "jobs", "earmark", "tensorflow", "keras"},
        "train": {"jobs", "earmark", "librosa", "soundfile", "soxr"},
        "jobs": {"earmark"},
        "earmark": {"keras"},
    }[package]
    assert not tops(path) & forbidden
    if package == "train":
        allowed = re.compile(r"featurize\.(dataset\..*|display|errors|io_errors|processes|storage|uri|version)")
        assert all(allowed.fullmatch(name) for name in imported(path) if name.startswith("featurize"))


# Each folder imports only folders before it in its list; modules beside the folders come first, unless listed.
FOLDERS = {
    "featurize": ("dataset", "collection", "audio", "planning", "execution", "dataset_build"),
    "train": ("input", "model", "evaluation", "answers", "fit", "report", "export", "cluster"),
    "jobs": (
        "terminal",
        "tracking",
        "pipeline",
        "fold_processes",
        "cross_validation",
        "tuning",
        "demo",
        "inference",
        "remote",
        "doctor",
        "commands",
        "cli",
    ),
    "earmark": ("progress", "dataset", "model", "build"),
}


@pytest.mark.parametrize("module", MODULES)
def test_folders_import_only_folders_before_them(module):
    package, *rest = module.split(".")
    folders = FOLDERS[package]
    if module == "earmark":
        return  # the package itself, whose names are those of its modules
    own = rest[0] if rest else ""
    allowed = folders[: folders.index(own) + 1] if own in folders else ()
    for name in imported(MODULES[module]):
        other, *inside = name.split(".")
        if other == package and inside and inside[0] in folders:
            assert inside[0] in allowed, f"{module} imports {name}"


def test_only_these_modules_import_ray():
    assert {module for module, path in MODULES.items() if "ray" in tops(path)} == {
        "featurize.execution.import_path",
        "featurize.execution.local_ray",
        "featurize.execution.ray_metrics",
        "featurize.execution.ray_pipeline",
        "featurize.execution.ray_tasks",
        "train.cluster.ray_train",
        "train.cluster.progress_channel",
        "train.cluster.training_metrics",
        "train.cluster.room",
        "train.cluster.worker",
        "jobs.remote.submit",
    }


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("librosa", {"featurize.audio.filters"}),
        (
            "soundfile",
            {
                "featurize.audio.sndfile_decoder",
                "featurize.dataset_build.finalize",
                "jobs.demo.demo",
                "jobs.doctor.smoke_test",
            },
        ),
        ("av", {"featurize.audio.av_decoder", "featurize.ffmpeg", "jobs.audio_clips", "jobs.doctor.smoke_test"}),
        ("jinja2", {"train.report.html"}),
        (
            "matplotlib",
            {
                *(f"train.report.{name}" for name in ("comparison_page", "figures", "html", "reliability")),
                "train.report.cross_validation_page",
                "train.evaluation.confusion_image",
            },
        ),
    ],
)
def test_only_these_modules_import_the_library(library, modules):
    assert {module for module, path in MODULES.items() if library in tops(path)} == modules


def test_every_folder_is_a_package_whose_init_file_has_only_a_docstring():
    folders = {path.parent for path in MODULES.values()}
    assert folders >= {ROOT / package for package in PACKAGES}
    for folder in folders:
        tree = ast.parse((folder / "__init__.py").read_text())
        assert ast.get_docstring(tree)
        assert len(tree.body) == 1 or folder.name == "earmark"  # whose names are those of its modules


def test_every_package_is_installed_and_uploaded_to_a_cluster():
    from setuptools import find_packages

    from jobs.remote.code_bundle import code_files

    finder = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    installed = {name for name in find_packages(ROOT, include=finder["include"]) if name.split(".")[0] in PACKAGES}
    assert installed == {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in MODULES.values()}
    uploaded = {name for name in code_files() if name.split("/")[0] in PACKAGES and name.endswith(".py")}
    assert uploaded == {path.relative_to(ROOT).as_posix() for path in MODULES.values()}


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_loads_no_heavy_library(command):
    code = (
        "import sys; from jobs.commands.app import app\n"
        f"try: app({[*command, '--help']!r})\n"
        "finally: print('LOADED', sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    help_text, _, loaded = done.stdout.partition("LOADED")
    assert "Usage" in help_text
    for heavy in ("tensorflow", "keras", "ray", "librosa", "numpy", "pyarrow", "matplotlib"):
        assert f"'{heavy}'" not in loaded


def test_workers_load_no_library_that_they_do_not_need():
    heavy = ("tensorflow", "ray", "librosa", "numba", "av")
    code = f"import sys, featurize.dataset_build.worker; print({{*{heavy}}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
