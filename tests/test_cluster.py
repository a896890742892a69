"""Jobs on Ray nodes and an S3 server: nodes join and are killed, and the result equals that of one machine."""

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
from support.command_line import contents, earmark
from support.nodes import Nodes, ended, nodes, submit, training_workers, wait_for
from support.training import figures, final_state

from featurize.execution.import_path import INSTALLATION
from featurize.storage import StoragePath
from jobs.demo.demo import compose_collection
from jobs.provenance import revision
from train.run import Run

pytestmark = pytest.mark.slow

SETTINGS = {
    "featurize.tracks_per_shard": 1,
    "featurize.segments_per_track": 4,
    "train.device": "cpu",
    "train.model": "modulation",
    "train.epochs": 9,
    "train.batch_size": 24,
    "train.learning_rate": 1e-3,
    "train.validation_fold": "next",
    "train.checkpoint_every": "2 epochs",
}
COMMAND = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
SHARDS = 120


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A collection of 120 synthetic MP3 files of ten seconds."""
    folder = tmp_path_factory.mktemp("collection")
    compose_collection(folder, seed=5, tracks_per_style=40)
    return folder


@pytest.fixture(scope="module")
def bucket(client, uri, collection):
    for path in sorted(collection.rglob("*.mp3")):
        client.upload_file(str(path), "music", f"songs/{path.relative_to(collection)}")
    return uri


@pytest.fixture(scope="module")
def local(collection, tmp_path_factory):
    """The run folder of the same job on this machine alone."""
    folder = tmp_path_factory.mktemp("local") / "run"
    done = earmark("run", collection, "--out", folder, *COMMAND)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def cluster(server):
    keys = {
        name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    }
    with nodes(keys) as started:
        started.join("127.0.0.3")
        yield started


def shards_in(folder: StoragePath) -> int:
    return sum(name.startswith("shards/") for name, _ in folder.files())


def state_of(folder):
    """Return weights and slots of the latest checkpoint as bytes, and the history without timings."""
    return final_state(folder), figures(folder)


def test_nodes_are_killed_and_join_and_the_result_equals_the_local_run(cluster, bucket, local):
    music, out = bucket("music/songs"), bucket("music/run")
    begun = time.monotonic()
    process = submit(cluster, "--", "run", music, "--out", out, *COMMAND)

    wait_for(lambda: shards_in(StoragePath.of(out) / "features") >= 12, process)
    cluster.join("127.0.0.4")
    killed_at = shards_in(StoragePath.of(out) / "features")
    cluster.kill("127.0.0.3")
    assert killed_at < SHARDS
    progress = earmark("status", out).stdout
    assert progress.startswith("state     unfinished")
    assert f"of {SHARDS} done" in progress

    wait_for(Run(out).latest_step, process)
    step = Run(out).latest_step()
    cluster.kill("127.0.0.4")
    progress = earmark("status", out).stdout
    assert "training  unfinished" in progress
    time.sleep(40)  # only the head is left, which must be logged
    assert process.poll() is None
    cluster.join("127.0.0.5")
    status, stdout, stderr = ended(process)
    assert status == 0, stdout + stderr
    print(f"{time.monotonic() - begun:.0f} s; a node killed at {killed_at} shards, the next one after step {step}")
    print(stdout)

    assert contents(StoragePath.of(out) / "features") == contents(local / "features")
    assert "Resuming after step" in stdout
    assert ", 1 node" in stdout
    assert "Waiting for room for 1 worker" in stdout
    assert "it has 1 node, 0 of 0 CPUs free" in stdout
    assert state_of(out) == state_of(local)
    metrics = {k: v for k, v in Run(out).read("metrics.json").items() if k != "judged"}
    assert metrics == {k: v for k, v in Run(local).read("metrics.json").items() if k != "judged"}
    assert not (StoragePath.of(out) / "ray-train").is_folder()
    assert Run(out).read("run.json")["started"].get("revision") == revision(Path(INSTALLATION))
    files = {name.split("/")[0] for name, _ in StoragePath.of(out).files()}
    assert {"config.yaml", "history.json", "model.keras", "report.html", "tensorboard"} <= files


def with_two_workers(cluster: Nodes) -> list[str]:
    for ip in ("127.0.0.4", "127.0.0.5"):
        if ip not in cluster.processes:
            cluster.join(ip)
            cluster.until_joined(ip)
    return [*COMMAND, "--set", "train.workers=2", "--set", "train.checkpoint_every=1 epoch"]


def chief_among(workers: list[psutil.Process], folder) -> list[psutil.Process]:
    """Return the worker that has the TensorBoard files of the run open."""
    return [worker for worker in workers if any(str(folder) in file.path for file in worker.open_files())]


@pytest.mark.matrix
def test_two_workers_that_are_killed_and_stopped_train_the_same_model(cluster, local, tmp_path):
    settings = with_two_workers(cluster)
    command = ["--shared", "/", "--", "train", local / "features", *settings, "--out"]
    status, stdout, stderr = ended(submit(cluster, *command, tmp_path / "alone"))
    assert status == 0, stdout + stderr
    assert "on 2 CPUs of 2 workers" in stdout

    out, run = tmp_path / "killed", Run(tmp_path / "killed")
    process = submit(cluster, "--stop-on-interrupt", *command, out)
    workers = wait_for(lambda: run.latest_step() and training_workers(cluster), process)
    kills = [run.latest_step()]
    next(worker for worker in workers if worker not in chief_among(workers, out)).kill()
    wait_for(lambda: run.latest_step() > kills[0], process)
    process.send_signal(signal.SIGTERM)
    status, stdout, stderr = ended(process)
    assert status == 128 + signal.SIGTERM
    stopped = run.latest_step()
    assert f"Resuming after step {kills[0]}." in stdout
    assert f"Stopped: a checkpoint holds all {stopped} steps" in stdout
    assert "submit the same command again to continue" in stderr
    assert not (out / "model.keras").exists()

    process = submit(cluster, *command, out)
    workers = wait_for(lambda: run.latest_step() > stopped and training_workers(cluster), process)
    kills.append(run.latest_step())
    chief_among(workers, out)[0].kill()
    status, stdout, stderr = ended(process)
    assert status == 0, stdout + stderr
    for step in (stopped, kills[1]):
        assert f"Resuming after step {step}." in stdout
    assert state_of(out) == state_of(tmp_path / "alone")
    print(f"a worker killed after step {kills[0]}, all stopped after {stopped}, the chief killed after {kills[1]}")

    # One worker and two add the same numbers in another order, which makes a difference after some hundred steps.
    two, one = (Run(folder).history()[0].train.loss for folder in (tmp_path / "alone", local))
    print(f"loss of the first epoch: two workers {two}, one {one}")
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.matrix
def test_a_cross_validation_trains_as_many_folds_at_a_time_as_have_room(cluster, local, tmp_path):
    with_two_workers(cluster)
    settings = [*COMMAND, "--set", "train.epochs=2", "--set", "train.checkpoint_every=1 epoch"]
    command = ["--shared", "/", "--stop-on-interrupt", "--", "crossval", local / "features", *settings]
    out = tmp_path / "folds"
    process = submit(cluster, *command, "--out", out)
    first = [Run(out / f"fold={fold}") for fold in (0, 1)]
    wait_for(lambda: all(run.latest_step() for run in first), process, 300)
    process.send_signal(signal.SIGTERM)
    status, stdout, stderr = ended(process)
    assert status == 128 + signal.SIGTERM
    assert "folds are finished, and checkpoints hold the rest" in stdout
    assert "submit the same command again to continue" in stderr

    status, stdout, stderr = ended(submit(cluster, *command, "--out", out))
    assert status == 0, stdout + stderr
    assert "Resuming after step" in stdout
    done = earmark("crossval", local / "features", *settings, "--out", tmp_path / "here")
    assert done.returncode == 0, done.stderr
    assert (out / "crossval.json").read_text() == (tmp_path / "here" / "crossval.json").read_text()


def test_a_job_continues_without_its_command_and_leaves_complete_shards_when_stopped(cluster, bucket, local):
    from ray.job_submission import JobSubmissionClient

    with_two_workers(cluster)
    out = bucket("music/left")
    command = ["--", "featurize", bucket("music/songs"), "--out", out, *COMMAND[:4]]
    process = submit(cluster, *command)
    wait_for(lambda: shards_in(StoragePath.of(out)) >= 5, process)
    process.send_signal(signal.SIGINT)
    status, _, stderr = ended(process, 20)
    assert status == 128 + signal.SIGINT
    assert "The job continues without this command." in stderr
    follow = next(line for line in stderr.splitlines() if line.startswith("follow"))
    job = follow.split()[-1]
    assert re.fullmatch(r"earmark-featurize-left-\d{8}-\d{6}-[0-9a-f]{4}", job)

    client = JobSubmissionClient(cluster.address, headers={"Authorization": f"Bearer {cluster.token}"})
    assert client.get_job_status(job) == "RUNNING"
    assert shards_in(StoragePath.of(out)) < SHARDS
    client.stop_job(job)
    deadline = time.monotonic() + 40
    while not client.get_job_status(job).is_terminal():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "Stopped. What was finished is kept" in client.get_job_logs(job)
    shards_kept = shards_in(StoragePath.of(out))
    assert shards_kept >= 5
    assert not (StoragePath.of(out) / "dataset.json").is_file()

    begun = submit(cluster, "--detach", *command)
    status, stdout, stderr = ended(begun, 60)
    assert (status, stdout) == (0, "")
    job = re.search(r"Submitted: (\S+)", stderr)[1]
    deadline = time.monotonic() + 120
    while not client.get_job_status(job).is_terminal():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert client.get_job_status(job) == "SUCCEEDED", client.get_job_logs(job)
    found, there = contents(out), contents(local / "features")
    assert found.pop("config.yaml")
    assert found == {name: content for name, content in there.items() if name != "config.yaml"}
    print(f"stopped with {shards_kept} of {SHARDS} shards, then the same dataset")


@pytest.mark.parametrize(
    ("token", "words"),
    [("wrong" * 10, "it rejects the token that was sent"), ("", "it requires a token, and none was sent")],
    ids=["wrong token", "no token"],
)
def test_a_job_without_the_token_is_refused(token, words, cluster, bucket):
    environment = cluster.client(RAY_AUTH_TOKEN=token)
    if not token:
        del environment["RAY_AUTH_TOKEN"]
    out = bucket("music/denied")
    process = submit(cluster, "--", "run", bucket("music/songs"), "--out", out, environment=environment)
    status, stdout, stderr = ended(process, 60)
    print(stderr)
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"earmark: the cluster at {cluster.address} did not accept the job: {words}")
    assert "Traceback" not in stderr
    assert not StoragePath.of(out).is_folder()


def test_training_without_a_gpu_logs_what_it_waits_for_and_ends(cluster, local, tmp_path):
    with_two_workers(cluster)
    settings = [*COMMAND, "--set", "train.device=auto", "--set", "train.wait_minutes=0.05"]
    command = ["--", "train", local / "features", *settings, "--out", tmp_path / "run"]
    status, stdout, stderr = ended(submit(cluster, "--shared", "/", *command))
    assert status == 1
    assert "Waiting for room for 1 worker with 1 CPU and 1 GPU each (0.0 of 0.05 minutes): it has " in stdout
    assert "0 of 0 GPUs free" in stdout
    assert "earmark: the cluster had no room for 1 worker with 1 CPU and 1 GPU each in 0.05 minutes" in stdout
    assert "train.device=cpu" in stdout
    assert "Traceback" not in stdout + stderr


def test_a_job_ends_with_its_own_status_and_message(cluster, bucket):
    status, stdout, stderr = ended(
        submit(cluster, "--", "featurize", bucket("music/none"), "--out", bucket("music/x"))
    )
    assert status == 1
    assert "earmark: " in stdout
    assert "does not exist" in stdout
    assert "Traceback" not in stdout + stderr
    assert "INFO" not in stderr  # log lines of Ray's client
