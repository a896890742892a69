"""Every command in README and docs is one that works: read by the rules of its verb, and run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from support.audio import encode

from jobs.cli import app
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose

ROOT = Path(__file__).parent.parent
# As one reads them: what training leaves is compared later.
PAGES = [ROOT / "README.md", ROOT / "docs" / "training.md"]
PAGES += [page for page in sorted((ROOT / "docs").glob("*.md")) if page not in PAGES]

# Commands that a stranger's machine cannot run as they are, and the test that runs what they stand for.
ELSEWHERE = {
    "make test": "test_docs.py::test_a_stranger_types_what_is_written",  # by which it is run
    "ray get-auth-token --generate > /dev/null": (
        "test_ray_up.py::test_the_cluster_comes_up_on_machines_of_ones_own_and_goes_down"
    ),
    "ray up cluster.yaml": "test_ray_up.py::test_the_cluster_comes_up_on_machines_of_ones_own_and_goes_down",
    "ray down cluster.yaml": "test_ray_up.py::test_the_cluster_comes_up_on_machines_of_ones_own_and_goes_down",
    "earmark submit": "test_cluster.py::test_nodes_are_killed_and_others_join_and_the_result_is_the_local_one",
    "earmark status s3://BUCKET/run": "test_s3.py::test_a_bucket_gives_the_very_dataset_and_a_run_goes_on_there",
}
# A tunnel to a cluster that is up.
NOT_RUN = {"ray dashboard cluster.yaml"}


def shown(page: Path) -> list[str]:
    """The command lines in a page's fenced blocks that name no other language, without their comments."""
    blocks = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", page.read_text())
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    return [re.sub(r"\s+#.*", "", line) for line in lines if line]


def mentioned(page: Path) -> list[str]:
    """The commands of Earmark that are named in the text."""
    return re.findall(r"`(earmark [^`]+)`", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_and_option_that_is_named_is_there(page):
    verbs = typer.main.get_command(app).commands
    for line in [line for line in shown(page) if line.startswith("earmark")] + mentioned(page):
        words = shlex.split(line.replace("'", ""))
        own, _, sent = line.partition(" -- ")
        for part in (own.split()[1:], sent.split()):
            verb, *arguments = part or [None]
            if verb in (None, "COMMAND", "..."):
                continue
            assert verb in verbs, line
            known = {option for parameter in verbs[verb].params for option in parameter.opts}
            assert {word for word in arguments if word.startswith("--")} <= known | {"--help"}, line
        assert words


def test_no_command_hides_in_an_indented_block():
    for page in PAGES:
        assert not re.findall(r"(?m)^    (?:earmark|make|ray|pip|tensorboard) .*", page.read_text()), page.name


def test_a_command_that_is_run_elsewhere_is_run_there():
    for test in ELSEWHERE.values():
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), test


@pytest.fixture
def stranger(tmp_path) -> dict[str, str]:
    """A home with some music, and a checkout whose environment is this one."""
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
    for name in ("configs", "docs", "Makefile", "requirements.lock", "pyproject.toml"):
        (project / name).symlink_to(ROOT / name)
    # An environment of its own to make, which would clear it before it built it again; the programs are these.
    (project / ".venv").mkdir()
    (project / ".venv" / "bin").symlink_to(Path(sys.prefix, "bin"))
    (project / ".venv" / "ready").touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    # A desktop opens what is there.
    (tools / "xdg-open").write_text('#!/bin/sh\ntest -s "$1"\n')
    (tools / "xdg-open").chmod(0o755)
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "LANG") if name in os.environ}
    path = f"{tools}:{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "PWD": str(project)}


@pytest.mark.slow
def test_a_stranger_types_what_is_written(stranger):
    lines = [line for page in PAGES for line in shown(page)]
    assert len(lines) > 15
    for line in dict.fromkeys(lines):
        if line in NOT_RUN or any(line.startswith(known) for known in ELSEWHERE):
            continue
        script = typed(line)
        done = subprocess.run(
            ["bash", "-euc", script],
            env=stranger,
            cwd=stranger["PWD"],
            capture_output=True,
            text=True,
            timeout=400,
        )
        print(f"{line}: {done.returncode}")
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def typed(line: str) -> str:
    """What is run for a line: a server that would go on for ever is asked for its page, then ended."""
    if line.startswith("tensorboard"):
        return (
            f"{line} --port 0 2> ~/said & server=$!; trap 'kill $server' EXIT; "
            "until grep -q 'http://' ~/said; do kill -0 $server; sleep 0.2; done"
        )
    return line
