"""run.json records how a run was made, and `earmark card` writes a model card of it."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from support.command_line import contents, earmark_here

from featurize.dataset.dataset import open_dataset
from featurize.dataset.info import DatasetInfo
from featurize.storage import StoragePath
from jobs.commands.app import app
from jobs.provenance import describe_start, revision, versions
from jobs.remote.code_bundle import pack, revision_file
from jobs.typed_command import command_words, recorded_command
from train.errors import TrainError
from train.provenance import Device, Start
from train.records import RunInfo
from train.report.markdown import escape
from train.report.model_card import write_model_card
from train.run import Run

SETTINGS = ["train.model=modulation", "train.batch_size=16", "train.learning_rate=1e-3"]
SET = [word for setting in SETTINGS for word in ("--set", setting)]
HOSTILE = [
    "<script>alert(1)</script> | [x](http://a.example/) ![i](http://a.example/i.png) `c`",
    "*b*\n# heading\n---\n- item",
    "$x$ ~~s~~ &amp; <!-- \u202e www.a.example http://a.example",
]


@pytest.fixture(scope="module")
def run(features, logical_cpus, tmp_path_factory) -> Path:
    """A run of one epoch, continued to the second by another command."""
    folder = tmp_path_factory.mktemp("provenance") / "my-genres"
    for epochs in (1, 2):
        done = earmark_here("train", features, "--out", folder, *SET, "--set", f"train.epochs={epochs}")
        assert done.returncode == 0, done.stderr
    return folder


def test_run_json_has_the_first_start_and_what_differs_in_later_ones(run, features):
    info = Run(run).info()
    assert info.started.command == [
        "train",
        "--out",
        str(run),
        *SET,
        *("--set", "train.epochs=1"),
        "--",
        str(features),
    ]
    assert info.started.versions == versions()
    assert {"earmark", "python", "tensorflow", "keras", "ray", "librosa", "numpy", "pyarrow"} == {*versions()}
    assert info.started.device == Device(kind="CPU", count=1)
    assert info.started.host.cores == len(os.sched_getaffinity(0))
    assert os.uname().nodename not in json.dumps(info.started.host.to_json())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info.started.date)
    [resumed] = info.resumed
    assert resumed.command[-3] == "train.epochs=2"
    assert resumed.to_json().keys() == {"date", "command", "versions"}  # the rest is as before


def test_a_command_that_has_nothing_to_train_records_nothing_and_the_date_is_nowhere_else(run, features):
    before = contents(run)
    done = earmark_here("train", features, "--out", run, *SET, "--set", "train.epochs=2")
    assert done.returncode == 0, done.stderr
    assert contents(run) == before
    year = Run(run).info().started.date[:11].encode()
    texts = {name: content for name, content in before.items() if name.endswith((".json", ".yaml"))}
    assert [name for name, content in texts.items() if year in content] == ["run.json"]


def test_a_run_of_an_earlier_version_is_continued():
    start = Start(date="2026-11-26T12:00:00Z", command=["train"], versions={"python": "3.11.7"})
    older = RunInfo(dataset="d", features="features", train={"epochs": 3})
    assert older.with_device(Device(kind="CPU", count=1)).to_json() == older.to_json()
    info = older.with_start(start, older)
    assert (info.started, info.resumed) == (None, [start])
    device = Device(kind="GPU", name="NVIDIA A100", count=2)
    assert info.with_device(device).resumed[0].device == device
    assert older.with_start(None, older).to_json() == older.to_json()


def test_the_devices_are_those_of_the_latest_number_of_workers():
    start = Start(date="2026-11-26T12:00:00Z", command=["train"], versions={"python": "3.11.7"})
    two, four = (Device(kind="GPU", name="NVIDIA A100", count=count) for count in (2, 4))
    new = RunInfo(dataset="d", features="features", train={"epochs": 3})
    first = new.with_start(start, None).with_device(two).with_device(four)
    assert first.started.device == four
    resumed = first.with_start(start, first)
    assert resumed.with_device(two).resumed[0].device == two
    grown = resumed.with_device(two).with_device(four)
    assert grown.to_json() == resumed.to_json()  # as at the first start, so without the key
    assert grown.started.device == four


def test_the_revision_is_that_of_a_checkout_and_not_of_a_folder_inside_one(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "file").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "m"], ["tag", "-am", "t", "v1"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert revision(tmp_path) == head
    assert revision(tmp_path / "inside") is None
    (tmp_path / "file").write_text("2")
    assert revision(tmp_path) == f"{head}-dirty"
    shutil.rmtree(tmp_path / ".git")
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert revision(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "expected"), [("ab" * 20, "ab" * 20), ("ab" * 20 + "-dirty\n", "ab" * 20 + "-dirty"), ("é", None)]
)
def test_the_folder_of_a_job_has_the_revision_that_it_was_submitted_with(content, expected, tmp_path, monkeypatch):
    (tmp_path / "revision.txt").write_text(content, "utf-8")
    assert revision(tmp_path) == expected
    if expected is not None:
        monkeypatch.setattr("jobs.remote.code_bundle.INSTALLATION", str(tmp_path))
        (tmp_path / "job").mkdir()
        pack({}, "", revision_file(), tmp_path / "job")
        assert revision(tmp_path / "job") == expected


def test_a_recorded_command_has_neither_secrets_nor_the_home_folder(monkeypatch):
    command = typer.main.get_command(app).commands["run"]
    monkeypatch.setenv("HOME", "/home/someone")
    words = ["s3://KEY:SECRET@music/a b?region=x&session_token=TOKEN", "--out", "/home/someone/run"]
    words += ["--set", "train.model=s3://KEY:SECRET@b/net.py:build", "--config", "/home/someone/c.yaml"]
    words += ["--set", "train.model=/home/someone/net.py:build"]
    words += ["--retry-rejects", "--workers", "3", "--allow-bucket", "a", "--allow-bucket", "b"]
    with command.make_context("earmark run", list(words)) as context:
        found = recorded_command(context)
        typed = command_words(command, context.params)
    assert found == [
        *("run", "--out", "~/run", "--config", "~/c.yaml", "--set", "train.model=s3://b/net.py:build"),
        *("--set", "train.model=~/net.py:build"),
        *("--workers", "3", "--retry-rejects", "--allow-bucket", "a", "--allow-bucket", "b"),
        *("--", "s3://music/a b?region=x"),
    ]
    with command.make_context("earmark run", typed[1:]) as again:
        assert again.params == context.params
    assert describe_start(None).command is None
    assert not set(describe_start(None).to_json()) & {"command", "device"}


def front_matter(card: str) -> dict:
    start, front, _ = re.split(r"(?m)^---$\n?", card, maxsplit=2)
    assert start == ""
    assert "\n# license:" in front or front.startswith("# license:")
    return yaml.safe_load(front)


def test_the_card_has_metadata_for_hugging_face_and_no_paths(run, features, tmp_path):
    printed = earmark_here("card", run)
    written = earmark_here("card", run, "--out", tmp_path / "README.md")
    assert (printed.returncode, written.returncode) == (0, 0), printed.stderr + written.stderr
    card = (tmp_path / "README.md").read_text()
    assert card == printed.stdout
    metadata = front_matter(card)
    assert metadata["library_name"] == "keras"
    assert metadata["pipeline_tag"] == "audio-classification"
    assert "license" not in metadata
    [index] = metadata["model-index"]
    assert index["name"] == "my-genres"
    metrics = Run(run).metrics()
    [result] = index["results"]
    assert {"type", "name"} <= result["dataset"].keys()
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [
        ("accuracy", round(metrics.tracks.accuracy, 4)),
        ("f1", round(metrics.tracks.macro_f1, 4)),
        ("accuracy", round(metrics.segments.accuracy, 4)),
        ("f1", round(metrics.segments.macro_f1, 4)),
    ]
    assert str(features) not in card
    assert str(Path.home()) not in card
    assert not re.search(r"(?<![\w.])/\w+/\w+", card)
    info = Run(run).info()
    for text in (
        *metrics.classes,
        f"{metrics.tracks.accuracy:.3f}",
        metrics.model_sha256,
        open_dataset(features).id,
        info.started.date,
        info.started.versions["tensorflow"].replace(".", r"\."),
        "## Limitations",
        "earmark predict RUN",
        "learning_rate: 0.001",
        "resumed 1 time",
    ):
        assert text in card
    for row in metrics.tracks.confusion:
        assert f"| {' | '.join(map(str, row))} |" in card


def test_hostile_class_names_are_text_in_the_card(run, features, tmp_path):
    copy, dataset = tmp_path / "run", open_dataset(features)
    shutil.copytree(run, copy)
    text = dataset.info.encode().decode()
    for old, new in zip(dataset.classes, HOSTILE, strict=True):
        text = text.replace(json.dumps(old), json.dumps(new))
        for name in ("model.json", "metrics.json"):
            content = (copy / name).read_text()
            (copy / name).write_text(content.replace(json.dumps(old), json.dumps(new)))
    info = DatasetInfo.model_validate_json(text)
    card = write_model_card(Run(copy), dataclasses.replace(dataset, info=info))
    front_matter(card)
    body = card.split("---\n", 2)[2]
    html = (
        MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"]).render(body)
    )
    assert not re.search(r"<(script|img|a|s|em|!)\b", html)
    for name in (HOSTILE[0], "&amp;amp;", "*b*\\n# heading\\n---\\n- item", "\\u202e"):
        shown = (
            name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") if name == HOSTILE[0] else name
        )
        assert shown in html.replace("&quot;", '"')
    assert [line for line in html.splitlines() if line.startswith("<h1>")] == ["<h1>run</h1>"]
    columns = {line.count(" | ") for line in body.splitlines() if line.startswith(("| \\*b", "| &lt;script"))}
    assert len(columns) == 2  # the tables of classes and of the confusion
    assert escape(" ") == "(no name)"


def test_a_run_that_cannot_have_a_card_is_refused_with_advice(run, features, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "metrics.json").unlink()
    done = earmark_here("card", copy, "--features", features)
    assert done.returncode == 1
    assert "is not evaluated yet. Type: earmark evaluate" in done.stderr
    shutil.copy(run / "metrics.json", copy)
    (copy / "model.keras").write_bytes(b"another")
    with pytest.raises(TrainError, match="has the metrics of another model"):
        write_model_card(Run(copy), open_dataset(features))
    other = open_dataset(features)
    other = dataclasses.replace(other, info=other.info.model_copy(update={"id": "0" * 16}))
    with pytest.raises(TrainError, match=r"was trained on the dataset .* Give the dataset of the run"):
        write_model_card(Run(run), other)
    done = earmark_here("card", tmp_path)
    assert done.returncode == 1
    assert "holds no run" in done.stderr
    done = earmark_here("card", run / "model.json", "--features", features)
    assert f"holds no run: run.json is missing. Give the folder of the run: {run}" in done.stderr
    done = earmark_here("card", run, "--features", features, "--out", tmp_path)
    assert done.returncode == 2
    assert f"is a folder. Give a file in it: --out {tmp_path}/README.md" in done.stderr


def test_the_card_of_a_run_in_a_bucket(run, features, client, uri):
    for folder, name in ((run, "runs/genres"), (features, "features")):
        for path in folder.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "music", f"{name}/{path.relative_to(folder)}")
    done = earmark_here("card", uri("music/runs/genres"), "--features", uri("music/features"))
    assert done.returncode == 0, done.stderr
    assert front_matter(done.stdout)["model-index"][0]["name"] == "genres"
    done = earmark_here("card", run, "--out", uri("music/runs/genres/README.md"))
    assert done.returncode == 0, done.stderr
    assert front_matter(StoragePath.of(uri("music/runs/genres/README.md")).read().decode())
