"""The number of training workers follows the cluster, and the weights do not depend on it."""

import time

import pytest
from pydantic import ValidationError
from support.nodes import ended, nodes, submit, training_workers, wait_for
from support.training import figures, final_state

from featurize.storage import StoragePath
from jobs.config import JobConfig
from jobs.errors import ConfigError
from jobs.terminal.console import ConsoleReporter
from train.cluster.restarts import MOST_FAILURES, Restarts
from train.config import TrainConfig
from train.run import Run


@pytest.mark.parametrize(
    ("workers", "parts", "used"),
    [
        ("1..3", 6, [0, 1, 2, 3, 3]),
        ("1..4", 4, [0, 1, 2, 2, 4]),
        ("2..8", 8, [0, 0, 2, 2, 4, 4, 4, 4, 8]),
        ("4..6", 12, [0, 0, 0, 0, 4, 4, 6]),
        (2, 2, [0, 0, 2, 2]),
    ],
)
def test_as_many_workers_train_as_there_is_room_for(workers, parts, used):
    config = TrainConfig(workers=workers, device="cpu")
    assert config.worker_range.parts == parts
    assert [config.worker_range.number_for(room) for room in range(len(used))] == used


def test_gpus_need_no_equal_parts():
    config = TrainConfig(workers="5..7", device="gpu")
    assert [config.worker_range.number_for(room) for room in range(9)] == [0, 0, 0, 0, 0, 5, 6, 7, 7]


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("3..2", "expected a number from 1 to 4096, or a range of such numbers as 2..8"),
        ("0..2", "expected a number from 1 to 4096"),
        (0, "expected a number from 1 to 4096"),
        (True, "expected a number from 1 to 4096"),
        ("2-8", "expected a number from 1 to 4096"),
        ("5..7", "equal parts, which of these numbers only 7 divides. Set a range such as 3..6"),
        ("40..66", "132 parts .* cannot share batches of 64 segments"),
    ],
)
def test_other_numbers_of_workers_are_refused(workers, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(workers=workers, device="cpu")


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("2..8", "no GPUs, so train.device = auto is the CPU: .*8 parts .* cannot share batches of 4 segments"),
        ("9..11", "no GPUs, so train.device = auto is the CPU: .*only 11 divides"),
    ],
)
def test_numbers_that_cpus_cannot_use_are_refused_with_automatic_devices(workers, message, features, tmp_path):
    from jobs.pipeline import make_model

    train = TrainConfig(workers=workers, batch_size=4 if workers == "2..8" else 64, model="modulation")
    out = StoragePath.of(tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        make_model(StoragePath.of(features), out, JobConfig(train=train), ConsoleReporter())
    assert not (out / "run.json").is_file()


def test_failures_count_since_the_last_progress_and_preemptions_do_not():
    restarts = Restarts(step=10)
    assert all(restarts.may_retry(10, announced=False) for _ in range(MOST_FAILURES))
    assert all(restarts.may_retry(10, announced=True) for _ in range(20))
    assert restarts.may_retry(11, announced=False)
    assert restarts.failures == 1
    assert all(restarts.may_retry(11, announced=False) for _ in range(MOST_FAILURES - 1))
    assert not restarts.may_retry(11, announced=False)


SETTINGS = {
    "train.workers": "1..3",
    "train.device": "cpu",
    "train.model": "modulation",
    "train.epochs": 60,
    "train.batch_size": 6,
    "train.learning_rate": 1e-3,
    "train.checkpoint_every": "50 steps",
}
PATIENCE = 400  # seconds, for machines that do much else


@pytest.mark.matrix
def test_training_goes_on_without_a_lost_node_and_takes_in_another_one(features, tmp_path):
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    command = ["--shared", "/", "--", "train", features, *settings, "--out"]
    with nodes({}) as cluster:
        cluster.join("127.0.0.3", 1)
        cluster.until_joined("127.0.0.3")
        status, stdout, stderr = ended(submit(cluster, *command, tmp_path / "alone"), 600)
        assert status == 0, stdout + stderr
        assert "on 1 worker in 6 parts" in stdout
        assert "restart" not in stdout

        cluster.join("127.0.0.4", 2)
        cluster.until_joined("127.0.0.4")
        out, run = tmp_path / "elastic", Run(tmp_path / "elastic")
        process = submit(cluster, *command, out)
        wait_for(run.latest_step, process, PATIENCE)
        assert len(training_workers(cluster)) == 3

        cluster.kill("127.0.0.3")
        killed, step = time.monotonic(), run.latest_step()
        wait_for(lambda: run.latest_step() > step, process, PATIENCE)
        seconds = time.monotonic() - killed
        assert len(training_workers(cluster)) == 2
        print(f"killed after step {step}, the next checkpoint {seconds:.0f} s later")

        joined = time.monotonic()
        cluster.join("127.0.0.5", 1)
        cluster.until_joined("127.0.0.5")
        wait_for(lambda: len(training_workers(cluster)) == 3, process, PATIENCE)
        step = run.latest_step()
        wait_for(lambda: run.latest_step() > step, process, PATIENCE)
        print(f"a node joined: three workers at step {step}, {time.monotonic() - joined:.0f} s after it started")

        training_workers(cluster)[-1].terminate()
        status, stdout, stderr = ended(process, 600)
        assert status == 0, stdout + stderr
        print(stdout)
    assert stdout.count("on 3 workers in 6 parts") == 3
    assert stdout.count("on 2 workers in 6 parts") == 1
    assert "There is room for 3 workers instead of 2: all restart after a checkpoint." in stdout
    assert "received SIGTERM: a training worker will be lost. All restart after a checkpoint." in stdout
    assert final_state(out) == final_state(tmp_path / "alone")
    assert figures(out) == figures(tmp_path / "alone")


@pytest.mark.matrix
def test_training_leaves_a_node_that_announces_its_end(features, tmp_path):
    settings = {**SETTINGS, "train.workers": "1..2", "train.checkpoint_every": "10 minutes"}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    out, run = tmp_path / "run", Run(tmp_path / "run")
    with nodes({}) as cluster:
        for ip in ("127.0.0.3", "127.0.0.4"):
            cluster.join(ip, 1)
            cluster.until_joined(ip)
        process = submit(cluster, "--shared", "/", "--", "train", features, *words, "--out", out)
        wait_for(run.history, process, PATIENCE)
        assert len(training_workers(cluster)) == 2
        assert run.latest_step() == 0

        announced = time.monotonic()
        cluster.announce_end("127.0.0.4", seconds=PATIENCE)
        wait_for(run.latest_step, process, PATIENCE)
        print(f"a checkpoint at step {run.latest_step()}, {time.monotonic() - announced:.0f} s after the notice")
        epochs = len(run.history())
        wait_for(lambda: len(run.history()) > epochs + 1, process, PATIENCE)
        print(f"trained further {time.monotonic() - announced:.0f} s after the notice")
        assert not any("RayTrainWorker" in " ".join(each.cmdline()) for each in cluster.below("127.0.0.4"))
        cluster.kill("127.0.0.4")
        status, stdout, stderr = ended(process, 600)
    assert status == 0, stdout + stderr
    assert "received a notice from Ray: a training worker will be lost. All restart after a checkpoint." in stdout
    assert stdout.count("on 2 workers in 2 parts") == 1
    assert stdout.count("on 1 worker in 2 parts") == 1
    assert "were lost" not in stdout
