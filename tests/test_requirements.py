"""A Python without Earmark's packages, as on the PATH of a cluster's node: a sentence with the command to type."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jobs.requirements import REQUIREMENTS

ROOT = Path(__file__).parent.parent


def test_the_requirements_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(REQUIREMENTS.values()) == sorted(project["dependencies"])


@pytest.mark.parametrize("address", ["", "127.0.0.1:6379"])
def test_a_python_without_packages_is_named_with_the_command(address, tmp_path):
    """`-S` hides the installed packages; the code is in the working directory, as in a job."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "jobs.cli", "status", str(tmp_path)],
        cwd=ROOT,
        env=environment | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.match(rf"earmark: {re.escape(sys.executable)} lacks av, filelock, jinja2, .*, typer\. ", done.stderr)
    python, *words = shlex.split(done.stderr.rpartition("type on each node: ")[2])
    assert (python, *words[:3]) == (sys.executable, "-m", "pip", "install")
    assert words[3:] == list(REQUIREMENTS.values())


def test_the_python_api_refuses_windows_with_the_same_sentence():
    """The name of the system is changed after the standard library is loaded, whose paths depend on it."""
    code = (
        "import os, earmark, featurize.execution.import_path; os.name = 'nt'\n"
        "try: earmark.Dataset\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"earmark: it runs on Linux .* wsl --install; .*\n", done.stdout)


def test_windows_is_refused_with_a_sentence():
    """The module is loaded as on Windows, where `os.name` is `nt`; nothing of Earmark comes before it."""
    first, second = ast.parse((ROOT / "jobs" / "cli.py").read_text()).body[1:3]
    assert (first.names[0].name, second.names[0].name) == ("jobs.import_path", "jobs.supported_system")
    code = "import os, runpy; os.name = 'nt'; runpy.run_path('jobs/supported_system.py')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"earmark: it runs on Linux .* wsl --install; .*\n", done.stderr)
