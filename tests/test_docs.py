"""Every command in README and docs works: its options exist, and the slow test runs it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from support.audio import encode

from jobs.commands.app import app
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose

ROOT = Path(__file__).parent.parent
# In reading order: commands on later pages use the results of training.
PAGES = [ROOT / "README.md", ROOT / "docs" / "training.md"]
PAGES += [page for page in sorted((ROOT / "docs").glob("*.md")) if page not in PAGES]

# Commands that cannot run as written on a new machine, and the tests that run their equivalents.
ELSEWHERE = {
    "make test": "test_docs.py::test_every_command_runs_as_written",  # runs this test
    "(umask 077; ray get-auth-token --generate > /dev/null)": (
        "test_ray_up.py::test_a_cluster_on_own_machines_starts_and_stops"
    ),
    "ray up cluster.yaml": "test_ray_up.py::test_a_cluster_on_own_machines_starts_and_stops",
    "ray down cluster.yaml": "test_ray_up.py::test_a_cluster_on_own_machines_starts_and_stops",
    "earmark submit": "test_cluster.py::test_nodes_are_killed_and_join_and_the_result_equals_the_local_run",
    "python -m benchmarks.learning --music MUSIC": "test_benchmarks.py::test_a_benchmark_runs",
    "earmark status s3://BUCKET/run": "test_s3.py::test_a_dataset_in_a_bucket_equals_a_local_one",
}
# A tunnel to a running cluster.
NOT_RUN = {"ray dashboard cluster.yaml"}


def shown(page: Path) -> list[str]:
    """Return the command lines in the fenced blocks of a page without a language, without comments."""
    blocks = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", page.read_text())
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    return [re.sub(r"\s+#.*", "", line) for line in lines if line]


def mentioned(page: Path) -> list[str]:
    """Return the commands of Earmark in the text of a page."""
    return re.findall(r"`(earmark [^`]+)`", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_in_the_docs_exists(page):
    commands = typer.main.get_command(app).commands
    for line in [line for line in shown(page) if line.startswith("earmark")] + mentioned(page):
        words = shlex.split(line.replace("'", ""))
        own, _, sent = line.partition(" -- ")
        for part in (own.split()[1:], sent.split()):
            command, *arguments = part or [None]
            if command in (None, "COMMAND", "..."):
                continue
            assert command in commands, line
            known = {option for parameter in commands[command].params for option in parameter.opts}
            assert {word for word in arguments if word.startswith("--")} <= known | {"--help"}, line
        assert words


def test_no_command_is_in_an_indented_block():
    for page in PAGES:
        assert not re.findall(r"(?m)^    (?:earmark|make|ray|pip|tensorboard) .*", page.read_text()), page.name


def test_the_tests_of_other_commands_exist():
    for test in ELSEWHERE.values():
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), test


@pytest.fixture
def new_user(tmp_path) -> dict[str, str]:
    """Environment variables of a user with some music, and a checkout with this Python environment."""
    home, project = tmp_path / "home", tmp_path / "earmark"
    for s, (name, style) in enumerate(STYLES.items()):
        (home / "music" / name).mkdir(parents=True)
        for n in range(6):
            habits = Habits.draw(np.random.default_rng([11, s, n]))
            samples = compose(style, habits, 6, np.random.default_rng([11, s, n]))
            folder = home / "music" / name if n < 5 else home / "new-music"
            folder.mkdir(exist_ok=True)
            path = folder / (f"{name} {n}.flac" if n < 5 or s else "piece.flac")
            path.write_bytes(encode(samples, SAMPLE_RATE, path.suffix))
    project.mkdir()
    for name in ("docs", "Makefile", "requirements.lock", "requirements-run.lock", "pyproject.toml"):
        (project / name).symlink_to(ROOT / name)
    # The included settings, with two epochs: whether a command works does not depend on their number.
    shutil.copytree(ROOT / "configs", project / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    for config in (project / "configs").glob("*.yaml"):
        fewer = re.sub(r"(?m)^  epochs: \d+", "  epochs: 2", config.read_text())
        config.write_text(re.sub(r"(?m)^  warmup_epochs: \d+", "  warmup_epochs: 1", fewer))
    # A separate virtual environment, because make would clear it before a rebuild; its programs are linked.
    (project / ".venv").mkdir()
    (project / ".venv" / "bin").symlink_to(Path(sys.prefix, "bin"))
    (project / ".venv" / "ready").touch()
    (project / ".venv" / "ready-tools").touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    # A stand-in for a desktop: it checks that the file exists and is not empty.
    (tools / "xdg-open").write_text('#!/bin/sh\ntest -s "$1"\n')
    (tools / "xdg-open").chmod(0o755)
    kept = {name: os.environ[name] for name in ("LANG",) if name in os.environ}
    # `earmark demo` reads the settings that are installed: here those of the project.
    kept["PYTHONPATH"] = os.pathsep.join([str(project), str(ROOT)])
    path = f"{tools}:{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "PWD": str(project)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "pages", [pytest.param(PAGES[:1], id="README"), pytest.param(PAGES, id="all", marks=pytest.mark.matrix)]
)
def test_every_command_runs_as_written(pages, new_user):
    lines = [line for page in pages for line in shown(page)]
    assert len(lines) > 8 * len(pages[:2])
    for line in dict.fromkeys(lines):
        if line in NOT_RUN or any(line.startswith(known) for known in ELSEWHERE):
            continue
        script = script_for(line)
        done = subprocess.run(
            ["bash", "-euc", script],
            env=new_user,
            cwd=new_user["PWD"],
            capture_output=True,
            text=True,
            timeout=1200,  # a cross-validation takes six minutes beside another test on two cores
        )
        print(f"{line}: {done.returncode}")
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def script_for(line: str) -> str:
    """Return the script for a line; a TensorBoard server is stopped when it serves its page."""
    if line.startswith("tensorboard"):
        return (
            f"{line} --port 0 2> ~/log & server=$!; trap 'kill $server' EXIT; "
            "until grep -q 'http://' ~/log; do kill -0 $server; sleep 0.2; done"
        )
    return line
