"""`earmark submit` before it connects to a cluster: checks, files, settings; and progress lines of the driver."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from support.command_line import earmark, earmark_here

import jobs.terminal.console
from featurize.dataset_build.driver import FeaturizeProgress
from featurize.errors import FeaturizeError
from featurize.execution.node_mounts import refuse_unseen
from featurize.execution.ray_tasks import on_cluster
from featurize.storage import StoragePath
from jobs.commands.app import app
from jobs.config import load_config
from jobs.errors import ConfigError
from jobs.provenance import REVISION
from jobs.remote.code_bundle import SETTINGS, code_files, pack, sizes
from jobs.remote.remote_command import read_command
from jobs.remote.shared_paths import _network_mounts, refuse_local_paths
from jobs.remote.submit import readable_id
from jobs.tuning.space import read_space

ROOT = Path(__file__).parent.parent
RUN_IN_BUCKET = ["run", "s3://bucket/music", "--out", "s3://bucket/run"]


def test_only_code_and_settings_are_uploaded():
    files = code_files()
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    folders = ("earmark/", "featurize/", "train/", "jobs/", "configs/")
    stay = {"jobs/Dockerfile", "jobs/node_setup.sh", "train/report/templates/alpine.LICENSE"}
    stay |= {f"{package}/py.typed" for package in ("earmark", "featurize", "jobs", "train")}
    assert set(files) == {name for name in tracked.stdout.split() if name.startswith(folders)} - stay


def test_secrets_and_data_beside_the_code_are_not_uploaded(tmp_path, monkeypatch):
    for package in ("earmark", "featurize", "train", "jobs", "configs"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    kept = tmp_path / "jobs" / "kept.py"
    kept.write_text("1")
    (tmp_path / "jobs" / "deeper").mkdir()
    (tmp_path / "jobs" / "deeper" / "settings.yaml").write_text("a: 1")
    for name in (".env", "key.pem", "song.mp3", "part.parquet", "model.keras", "__pycache__/kept.cpython-311.pyc"):
        (tmp_path / "jobs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "jobs" / name).write_text("secret")
    (tmp_path / "jobs" / ".git").mkdir()
    (tmp_path / "jobs" / ".git" / "hook.py").write_text("secret")
    (tmp_path / "jobs" / "link.py").symlink_to(kept)
    code = "import jobs.remote.code_bundle as p; print(*sorted(p.code_files()))"
    (tmp_path / "jobs" / "remote").mkdir()
    for name in ("__init__.py", "code_bundle.py"):
        shutil.copyfile(ROOT / "jobs" / "remote" / name, tmp_path / "jobs" / "remote" / name)
    (tmp_path / "featurize" / "errors.py").write_text((ROOT / "featurize" / "errors.py").read_text())
    listed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    inits = {f"{package}/__init__.py" for package in ("earmark", "featurize", "train", "jobs", "configs")}
    own = {
        "featurize/errors.py",
        "jobs/remote/__init__.py",
        "jobs/remote/code_bundle.py",
        "jobs/kept.py",
        "jobs/deeper/settings.yaml",
    }
    assert set(listed.split()) == inits | own


def test_too_large_an_upload_is_refused_and_the_largest_files_are_listed(tmp_path):
    large, small = tmp_path / "large.yaml", tmp_path / "small.py"
    large.write_bytes(b"x" * 50_000_001)
    small.write_bytes(b"x")
    with pytest.raises(
        FeaturizeError, match=r"50,000,0\d\d bytes would be uploaded, expected at most 50,000,000"
    ) as caught:
        sizes({"configs/large.yaml": large, "jobs/small.py": small}, "a: 1\n", {})
    assert str(caught.value).splitlines()[1].split() == ["50,000,001", str(large)]


def test_the_uploaded_files_run_the_command_with_the_same_settings(tmp_path):
    command = read_command(
        typer.main.get_command(app).commands,
        [*RUN_IN_BUCKET, "--set", "train.model=conv2", "--workers", "3", "--retry-rejects"],
    )
    assert command.arguments == [
        *("run", "--out", "s3://bucket/run", "--config", SETTINGS, "--workers", "3", "--retry-rejects"),
        *("--", "s3://bucket/music"),
    ]
    assert command.paths == {"MUSIC": "s3://bucket/music", "--out": "s3://bucket/run"}
    pack(code_files(), command.settings, command.code, tmp_path)
    assert load_config(tmp_path / SETTINGS, []) == load_config(None, ["train.model=conv2"])
    again = [sys.executable, "-m", "jobs.cli", "config", "--config", SETTINGS]
    printed = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(printed)["train"]["model"] == "conv2"


@pytest.mark.parametrize(
    ("words", "metadata"),
    [
        (
            ["run", "s3://KEY:SECRET@b/my music?session_token=T", "--out", "/mnt/run?"],
            {"verb": "run", "out": "/mnt/run?", "dataset": "s3://b/my music"},
        ),
        (
            ["train", "s3://b/features", "--out", "s3://b/run"],
            {"verb": "train", "out": "s3://b/run", "dataset": "s3://b/features"},
        ),
        (
            ["evaluate", "s3://b/run", "--on", "gs://b/test", "--out", "gs://b/e"],
            {"verb": "evaluate", "out": "gs://b/e", "dataset": "gs://b/test"},
        ),
        (["verify", "s3://b/features"], {"verb": "verify", "out": "s3://b/features"}),
    ],
)
def test_the_dashboard_shows_what_a_job_does_without_secrets(words, metadata):
    assert read_command(typer.main.get_command(app).commands, words).metadata == metadata


def test_a_search_is_sent_with_its_space_and_the_models_that_it_names(tmp_path):
    build = "def build(input_shape, classes, config): ...\n"
    (tmp_path / "mine.py").write_text(build)
    (tmp_path / "space.yaml").write_text(
        f"train.model: [conv3, '{tmp_path / 'mine.py'}:build']\ntrain.seed: [1, 2]"
    )
    words = ["tune", "s3://b/features", "--space", str(tmp_path / "space.yaml"), "--out", "s3://b/runs"]
    command = read_command(typer.main.get_command(app).commands, [*words, "--samples", "8"])
    assert command.paths == {"FEATURES": "s3://b/features", "--out": "s3://b/runs"}
    assert ("--space", "space.yaml") in itertools.pairwise(command.arguments)
    pack(code_files(), command.settings, command.code, tmp_path / "job")
    assert (tmp_path / "job" / "model_code" / "mine.py").read_text() == build
    space = read_space(tmp_path / "job" / "space.yaml")
    assert space["train.model"].values == ("conv3", "model_code/mine.py:build")
    assert list(space) == ["train.model", "train.seed"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text(build.replace("build", "other"))
    models = [f"{tmp_path / 'mine.py'}:build", f"{tmp_path / 'other' / 'mine.py'}:other"]
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"train.model": models}))
    with pytest.raises(ConfigError, match=r"two files of the space have the same name\. Rename one"):
        read_command(typer.main.get_command(app).commands, words)
    (tmp_path / "space.yaml").write_text("train.sede: [1]")
    with pytest.raises(ConfigError, match=r"did you mean train\.seed"):
        read_command(typer.main.get_command(app).commands, words)


def test_a_prediction_is_sent_with_its_own_settings():
    words = ["predict", "s3://b/run", "s3://b/music.csv", "--out", "s3://b/answers", "--segments"]
    command = read_command(
        typer.main.get_command(app).commands, [*words, "--set", "featurize.max_seconds=9", "--allow-bucket", "c"]
    )
    assert command.paths == {"MUSIC": "s3://b/music.csv", "RUN": "s3://b/run", "--out": "s3://b/answers"}
    assert command.arguments[-3:] == ["--", "s3://b/run", "s3://b/music.csv"]
    again = read_command(typer.main.get_command(app).commands, command.arguments)
    assert again == command
    assert ("--set", "featurize.max_seconds=9") in itertools.pairwise(command.arguments)


def test_a_dry_run_lists_every_file_and_sends_nothing():
    done = earmark_here("submit", "--dry-run", "--address", "http://127.0.0.1:9", "--", *RUN_IN_BUCKET)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    listed = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in lines}
    assert {name: size for name, size in listed.items() if name not in (SETTINGS, REVISION)} == {
        name: path.stat().st_size for name, path in code_files().items()
    }
    assert last.startswith(
        f"{len(listed)} files, {sum(listed.values()):,} bytes would be uploaded to http://127.0.0.1:9"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--", "run", "music", "--out", "s3://b/run"], 1, f"- MUSIC: {Path.cwd() / 'music'}"),
        (["--", "run", "file:///music", "--out", "runs/x"], 1, "- MUSIC: file:///music\n  - --out: "),
        (["--", "evaluate", "runs/x"], 1, "- RUN: "),
        (["--", "predict", "s3://b/run", "music", "--out", "s3://b/a"], 1, "- MUSIC: "),
        (["--", "predict", "s3://b/run", "s3://b/m"], 2, "Add: --out ANSWERS"),
        (["--", "compact", "data/x", "--set", "featurize.tracks_per_shard=512"], 1, "- FEATURES: "),
        (["--", "run", "s3://b/m", "--out", "s3://b/r", "--set", "train.modl=x"], 2, "did you mean train.model?"),
        (["--", "run", "s3://b/m"], 2, "--out"),
        (["--", "demo"], 2, "a cluster runs run,"),
        (
            ["--address", "head:8265", "--", *RUN_IN_BUCKET],
            1,
            "expected the dashboard of the head, such as http://",
        ),
        (["--address", "http://127.0.0.1:9", "--", *RUN_IN_BUCKET], 1, "nothing answers there"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_sent(arguments, status, message):
    done = earmark_here("submit", *arguments)
    assert done.returncode == status
    assert message in " ".join(done.stderr.replace("│", " ").split()) or message in done.stderr
    assert "Traceback" not in done.stderr


def test_paths_in_shared_folders_are_accepted(tmp_path):
    paths = {"MUSIC": str(tmp_path / "music"), "--out": "gs://bucket/run"}
    with pytest.raises(FeaturizeError, match="add: --shared FOLDER"):
        refuse_local_paths(paths, [f"{tmp_path}/mus"])  # a prefix of the name is not the folder
    refuse_local_paths(paths, [str(tmp_path)])
    table = "server:/a /mnt/with\\040space nfs4 rw 0 0\n/dev/sda1 / ext4 rw 0 0\nb /mnt/b fuse.gcsfuse rw 0 0\n"
    table += "d /mnt/c 9p rw 0 0\n"
    assert _network_mounts(table) == ["/mnt/with space", "/mnt/b"]


def test_a_job_gets_absolute_paths_because_its_working_directory_is_another_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["predict", "../models/run", "music.csv", "--out", "answers/", "--columns", "path=x"]
    command = read_command(typer.main.get_command(app).commands, words)
    run, music, out = (
        str(path) for path in (tmp_path.parent / "models/run", tmp_path / "music.csv", tmp_path / "answers")
    )
    assert command.arguments[:3] == ["predict", "--out", out]
    assert command.arguments[-3:] == ["--", run, music]
    assert command.paths == {"RUN": run, "MUSIC": music, "--out": out}
    assert command.metadata == {"verb": "predict", "out": out, "dataset": music}


def test_ids_are_readable_and_unique():
    ids = {readable_id("run", "s3://bucket/My Run/?endpoint_override=http://x") for _ in range(50)}
    assert len(ids) == 50
    assert all(name.startswith("earmark-run-my-run-20") for name in ids)


def test_a_node_that_cannot_access_the_music_is_listed(ray_here, tmp_path):
    refuse_unseen([StoragePath.of(tmp_path)], StoragePath.of(tmp_path))
    with pytest.raises(FeaturizeError, match=r"- [\d.]+ does not see /nowhere/music\nMount them on every node"):
        refuse_unseen([StoragePath.of("/nowhere/music")], StoragePath.of(tmp_path))
    assert not list(tmp_path.iterdir())


def test_ray_address_rejects_the_address_of_a_dashboard(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(FeaturizeError, match="earmark submit --address"):
        on_cluster()
    for address, attached in (("", False), ("local", False), ("auto", True), ("10.0.0.1:6379", True)):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert on_cluster() is attached


def test_a_cluster_that_does_not_answer_is_reported_in_one_sentence(music, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    done = earmark("featurize", music, "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (  # without the two minutes of warnings that Ray logs
        "earmark: the Ray cluster at RAY_ADDRESS = 127.0.0.1:1 cannot be used: nothing answers there (Connection "
        "refused). To work on this machine alone: unset RAY_ADDRESS\n"
    )


def test_without_a_terminal_progress_is_printed_every_thirty_seconds(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(jobs.terminal.console.time, "monotonic", lambda: now)
    with jobs.terminal.console.ConsoleReporter().featurizing() as on_progress:
        on_progress(FeaturizeProgress(0, 400))
        for second in range(2, 201, 2):  # as the driver does, with or without a new shard
            now = float(second)
            on_progress(FeaturizeProgress(2 * second, 400, 2 * second, second // 100, 1 + second // 60))
        on_progress(FeaturizeProgress(400, 400, 400, 2, 4))
    # Each line begins with its time and level.
    lines = [line.split(maxsplit=2)[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "60 of 400 tracks, 170 s left, 2.0 tracks/s, no rejects, 1 node",
        "120 of 400 tracks, 140 s left, 2.0 tracks/s, no rejects, 2 nodes",
        "180 of 400 tracks, 110 s left, 2.0 tracks/s, no rejects, 2 nodes",
        "240 of 400 tracks, 80 s left, 2.0 tracks/s, 1 reject, 3 nodes",
        "300 of 400 tracks, 50 s left, 2.0 tracks/s, 1 reject, 3 nodes",
        "360 of 400 tracks, 20 s left, 2.0 tracks/s, 1 reject, 4 nodes",
        "400 of 400 tracks, 2.0 tracks/s, 2 rejects, 4 nodes",
    ]
