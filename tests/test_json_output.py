"""`--json` prints one document with the documented keys and nothing else on standard output."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.commands.app import app

PAGE = Path(__file__).parent.parent / "docs" / "scripts.md"


def printed(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def documented(command):
    """Return the keys in the row of a command in docs/scripts.md."""
    [row] = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `earmark {command}")]
    return set(re.findall(r"`(\w+)`", row.split(" | ", 1)[1]))


def test_status_and_verification_of_a_dataset(features):
    status = printed("status", features, "--json")
    assert status.keys() == {"folder", "dataset", "listing", "run", "cross_validation", "search", "answers"}
    assert status.keys() <= documented("status")
    assert (status["folder"], status["run"], status["answers"]) == (str(features), None, None)
    assert status["dataset"]["complete"] is True
    assert (status["dataset"]["tracks"], status["dataset"]["tracks_done"]) == (30, 30)
    assert status["dataset"].keys() <= documented("status")
    found = printed("verify", features, "--json")
    assert found.keys() == documented("verify")
    assert (found["problems"], found["rows"], found["unit"]) == ([], 120, "segments")


def test_evaluation_status_and_comparison_of_a_run(features, export_run, tmp_path):
    metrics = printed("evaluate", export_run, "--features", features, "--json")
    assert metrics == json.loads((export_run / "metrics.json").read_text())
    status = printed("status", export_run, "--json")["run"]
    assert status.keys() <= documented("status")
    assert status["evaluated"]["accuracy"] == metrics["tracks"]["accuracy"]
    assert (status["trained"], status["epochs"], status["epochs_done"]) == (True, 2, 2)
    compared = printed("compare", export_run, "--out", tmp_path / "page.html", "--json")
    assert compared.keys() | compared["runs"][0].keys() <= documented("compare")
    assert compared["runs"][0]["scores"][0]["tracks"]["accuracy"] == metrics["tracks"]["accuracy"]
    assert (tmp_path / "page.html").is_file()


def test_a_comparison_of_a_folder_whose_name_is_not_utf8_remarks_what_cannot_be_compared(quick_run, tmp_path):
    folder = os.fsdecode(bytes(tmp_path) + b"/a\xffb")
    shutil.copytree(quick_run, folder)
    shutil.rmtree(os.path.join(folder, "predictions.parquet"))
    compared = printed("compare", quick_run, folder, "--out", tmp_path / "page.html", "--json")
    assert compared["runs"][1]["name"] == folder
    assert compared["pairs"] == []
    assert "not compared track by track" in compared["remarks"][-1]
    page = (tmp_path / "page.html").read_text()
    assert "/a\\xffb" in page
    assert 'href="a%FFb/report.html"' in page


@pytest.mark.parametrize("verb", ["status", "verify", "evaluate", "compare", "crossval"])
def test_a_command_that_fails_prints_a_sentence_and_no_document(verb, tmp_path):
    out = ["--out", tmp_path / "out"] if verb in ("compare", "crossval") else []
    done = CliRunner().invoke(app, [verb, str(tmp_path / "missing"), *map(str, out), "--json"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("earmark: ")


@pytest.mark.slow
def test_findings_of_the_doctor():
    done = CliRunner().invoke(app, ["doctor", "--json"])
    findings = json.loads(done.stdout)["findings"]
    assert {finding["state"] for finding in findings} <= {"ok", "remark", "broken"}
    assert findings[0].keys() | {"findings"} == documented("doctor")
