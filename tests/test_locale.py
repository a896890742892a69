"""Locales and encodings other than UTF-8: the same plan and the same names, and output without a traceback."""

import json
import os
import subprocess
import sys

import pytest

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LISTED = """
import json, os, sys
from jobs.terminal.encoding import escape_unencodable, use_utf8
use_utf8()
escape_unencodable()
from featurize.collection.catalog import build_catalog
tracks = build_catalog(sys.argv[1]).tracks
print(json.dumps([tracks["track"].to_pylist(), tracks["path"].null_count, os.environ.get("PYTHONUTF8")]))
print(sys.argv[2], "\U0001f3b5")
"""


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python without the variables of this process that choose an encoding."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8", "PYTHONIO"))}
    return subprocess.run(
        [sys.executable, *map(str, command)], env=kept | environment, capture_output=True, timeout=120, check=False
    )


@pytest.fixture
def music(tmp_path):
    for label in ("rock", "jazz"):
        (tmp_path / "café" / label).mkdir(parents=True)
        for n in range(5):
            (tmp_path / "café" / label / f"{n} é音.wav").write_bytes(b"x")
    return tmp_path / "café"


def test_a_collection_is_listed_alike_in_every_locale(music, tmp_path):
    script = tmp_path / "listed.py"
    script.write_text(LISTED)
    found = []
    for environment in ({"LC_ALL": "C.UTF-8"}, C_LOCALE):
        done = run(script, music, "é", **environment)
        assert done.returncode == 0, done.stderr
        listed, shown = done.stdout.splitlines()
        found.append(json.loads(listed))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[1][1] == 10
    assert found[1][2] == "1"
    assert shown == b"\\u00e9 \\ud83c\\udfb5"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_that_cannot_be_encoded_is_escaped(encoding, music):
    code = (
        "from jobs.terminal.encoding import escape_unencodable; escape_unencodable()\n"
        "import typer; typer.echo('[\"é音\"]'); print('[\"é音\"]')"
    )
    done = run("-c", code, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert json.loads(second.decode(encoding)) == ["é音"]
    assert json.loads(first.decode("utf-8" if encoding == "ascii" else encoding)) == ["é音"]  # click prefers UTF-8


@pytest.mark.parametrize("environment", [C_LOCALE, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_command_explains_itself_in_every_locale(environment, music):
    done = run("-m", "jobs.cli", "status", music, **environment)
    assert done.returncode == 1
    assert b"holds neither a dataset nor a run" in done.stderr
    assert b"Traceback" not in done.stderr
