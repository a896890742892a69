"""An output folder that holds other people's files is refused before anything is written there."""

import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.output_folder import (
    refuse_foreign_dataset_folder,
    refuse_foreign_demo_folder,
    refuse_foreign_run_folder,
)
from featurize.dataset_build.driver import featurize
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath
from jobs.commands.app import app
from jobs.demo.demo import run_demo
from jobs.terminal.console import ConsoleReporter
from train.config import TrainConfig
from train.run import Run

CHECKS = (
    refuse_foreign_dataset_folder,
    refuse_foreign_run_folder,
    lambda folder: refuse_foreign_demo_folder(folder, ["bells"]),
)


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"mine")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "name", ["thesis.odt", "config.yaml", "tracks.parquet", "dataset.json", "photos/1.jpg", "shards/a.bin", "-x"]
)
def test_other_files_are_refused_and_named(check, name, tmp_path):
    fill(tmp_path, name)
    with pytest.raises(FeaturizeError) as error:
        check(StoragePath.of(tmp_path))
    assert str(error.value).startswith(f"{tmp_path} holds {name.split('/')[0]} and no ")
    assert str(error.value).endswith(f"Give --out a new or an empty folder, such as {tmp_path}/earmark")


@pytest.mark.parametrize("check", CHECKS)
def test_empty_folders_and_hidden_files_are_accepted(check, tmp_path):
    check(StoragePath.of(tmp_path / "absent"))
    check(StoragePath.of(tmp_path))
    fill(tmp_path, ".DS_Store", ".lock", "lost+found/x", ".git/config")
    check(StoragePath.of(tmp_path))


@pytest.mark.parametrize("check", CHECKS)
def test_a_file_is_refused(check, tmp_path):
    fill(tmp_path, "file")
    with pytest.raises(FeaturizeError, match=r"file is a file\. Give --out a folder"):
        check(StoragePath.of(tmp_path / "file"))


def test_a_name_cannot_forge_the_message(tmp_path):
    fill(tmp_path, "a\nearmark: done\x1b[2J")
    with pytest.raises(FeaturizeError, match=r"holds a\\nearmark: done\\x1b\[2J and"):
        refuse_foreign_dataset_folder(StoragePath.of(tmp_path))


def test_what_a_killed_run_left_is_accepted(tmp_path):
    fill(tmp_path / "a", "music.json", "shards/fold=0/.earmark-x.tmp", ".lock")
    refuse_foreign_dataset_folder(StoragePath.of(tmp_path / "a"))
    fill(tmp_path / "b", "features/music.json", "fold=0/.lock")
    refuse_foreign_run_folder(StoragePath.of(tmp_path / "b"))
    fill(tmp_path / "c", "music/bells/001.mp3", "run/.lock")
    refuse_foreign_demo_folder(StoragePath.of(tmp_path / "c"), ["bells"])
    fill(tmp_path / "c", "music/rock/1.mp3")
    with pytest.raises(FeaturizeError, match="holds rock and"):
        refuse_foreign_demo_folder(StoragePath.of(tmp_path / "c"), ["bells"])


def test_a_dataset_or_run_of_earmark_may_have_other_files_beside_it(features, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    fill(folder, "notes.txt")
    refuse_foreign_dataset_folder(StoragePath.of(folder))
    shutil.rmtree(folder / "shards")  # the plan alone is enough
    refuse_foreign_dataset_folder(StoragePath.of(folder))
    fill(tmp_path / "run", "run.json", "notes.txt")
    refuse_foreign_run_folder(StoragePath.of(tmp_path / "run"))


def test_a_dataset_and_a_run_do_not_overwrite_the_settings_of_each_other(features, music, tmp_path):
    run, features = tmp_path / "run", shutil.copytree(features, tmp_path / "features")
    Run(run).begin(open_dataset(features), TrainConfig())
    (run / "config.yaml").write_text("its settings")
    commands = (
        ["featurize", music, "--out", run],
        ["demo", "--out", run],
        ["train", features, "--out", features],
        ["crossval", features, "--out", features],
    )
    for command in commands:
        done = CliRunner().invoke(app, [*map(str, command)])
        assert done.exit_code == 1
        assert re.search(rf"{command[-1]} holds .* and no (dataset|demo|run) of Earmark", done.stderr)
    assert (run / "config.yaml").read_text() == "its settings"
    assert not (features / "run.json").exists()
    (features / "run.json").write_text("{}")  # begun by an earlier version
    refuse_foreign_run_folder(StoragePath.of(features))
    (features / "fold=0").mkdir()
    (features / "run.json").rename(features / "fold=0" / "run.json")  # and a cross-validation, not finished
    refuse_foreign_run_folder(StoragePath.of(features))


def test_featurize_and_the_demo_write_nothing_beside_other_files(music, tmp_path):
    fill(tmp_path, "mine.tmp", "tracks.parquet")
    with pytest.raises(FeaturizeError, match=r"and no (dataset|demo) of Earmark"):
        featurize(str(music), tmp_path, FeaturizeConfig())
    with pytest.raises(FeaturizeError, match=r"and no (dataset|demo) of Earmark"):
        run_demo(tmp_path, 0, None, ConsoleReporter())
    assert sorted(os.listdir(tmp_path)) == ["mine.tmp", "tracks.parquet"]


def test_other_objects_in_a_bucket_are_refused(client, uri):
    client.put_object(Bucket="music", Key="theirs/a.txt", Body=b"x")
    folder = StoragePath.of(uri("music/theirs"))
    for check in CHECKS:
        with pytest.raises(FeaturizeError, match=r"theirs\?endpoint_override=.* holds a\.txt and"):
            check(folder)
        check(StoragePath.of(uri("music/nothing")))


@pytest.mark.parametrize(
    "arguments",
    [
        ["featurize", "music", "--out", ""],
        ["run", "music", "--out", ""],
        ["run", "", "--out", "run"],
        ["train", "", "--out", "run"],
        ["demo", "--out", ""],
        ["compare", "run", "--out", ""],
        ["export", "run", "--format", "keras", "--out", ""],
        ["evaluate", "run", "--features", ""],
    ],
)
def test_an_empty_path_is_refused_by_every_command(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music" / "rock").mkdir(parents=True)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "an empty text is no path" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["music"]


def test_the_demo_does_not_promise_to_continue_in_a_file(tmp_path):
    fill(tmp_path, "file")
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file")])
    assert done.stderr == f"earmark: {tmp_path}/file is a file. Give --out a folder, new or empty.\n"


def test_commands_name_what_is_missing_and_what_to_type(tmp_path):
    done = CliRunner().invoke(app, ["status", str(tmp_path / "nope")])
    assert f"{tmp_path}/nope holds neither a dataset nor a run" in done.stderr
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "nope")])
    assert f"Train first: earmark train FEATURES --out {tmp_path}/nope" in done.stderr
