"""The commands for contributors exist, and a commit runs the checks of `make check`."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / ".pre-commit-config.yaml"


def test_a_commit_runs_what_make_check_runs():
    # With the environment assumed to be up to date; a dry run executes nothing.
    dry = ["make", "--dry-run", "--assume-old=.venv/ready", "--assume-old=.venv/ready-tools", "check"]
    recipe = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    commands = [line for line in recipe if not line.startswith("make")]
    (repository,) = yaml.safe_load(CONFIG.read_text())["repos"]
    assert repository["repo"] == "local"  # nothing is downloaded
    assert [hook["entry"] for hook in repository["hooks"]] == commands
    for hook in repository["hooks"]:
        assert (hook["language"], hook["pass_filenames"], hook["always_run"]) == ("system", False, True)


def test_pre_commit_accepts_the_config():
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(CONFIG)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_make_target_in_the_docs_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    named = {
        target
        for page in pages
        for target in re.findall(r"(?:^|`|=FOLDER )make ([a-z-]+[a-z])\b", page.read_text(), re.MULTILINE)
    }
    assert {"check", "test", "test-slow", "format", "lock"} <= named <= targets
