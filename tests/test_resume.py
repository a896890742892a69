"""A run that is stopped or killed at any moment resumes and gives the same bits as an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from support.command_line import contents, earmark

from train.checkpoint_name import CheckpointName
from train.errors import TrainError
from train.run import Run

pytestmark = pytest.mark.usefixtures("logical_cpus")

EPOCHS = 3


@pytest.fixture(scope="module")
def uninterrupted(features, logical_cpus, tmp_path_factory):
    from support.training import EVERYTHING, trained

    folder = tmp_path_factory.mktemp("uninterrupted")
    trained(features, folder, epochs=EPOCHS, **EVERYTHING)
    return folder


def assert_same(folder, uninterrupted):
    from support.training import figures, final_state

    assert figures(folder) == figures(uninterrupted)
    assert final_state(folder) == final_state(uninterrupted)


# The `stop` callback is called after each step and each evaluated batch. An epoch has five steps, then two batches
# for each of two folds.
@pytest.mark.parametrize(
    "moment", [pytest.param(2, marks=pytest.mark.slow), 6], ids=["in mid-epoch", "in an evaluation"]
)
def test_a_stopped_run_resumes_to_the_same_bits(moment, features, uninterrupted, tmp_path):
    from support.training import EVERYTHING, stop_when, trained

    from train.errors import Stopped

    with pytest.raises(Stopped) as stopped:
        trained(features, tmp_path, stop_when(moment), epochs=EPOCHS, **EVERYTHING)
    assert stopped.value.signal == signal.SIGTERM
    assert not (tmp_path / "model.keras").exists()
    messages, _ = trained(features, tmp_path, epochs=EPOCHS, **EVERYTHING)
    assert any(f"Resuming after step {stopped.value.step}." in message for message in messages)
    assert_same(tmp_path, uninterrupted)


def test_a_run_in_longer_calls_resumes_to_the_same_bits(features, uninterrupted, monkeypatch, tmp_path):
    """Stopped after an epoch in calls of 1 step and one in a single call of 3; resumed with other lengths."""
    from support.training import EVERYTHING, stop_when, trained

    from train.errors import Stopped

    monkeypatch.setattr("train.fit.call_length._SECONDS", 1000)
    with pytest.raises(Stopped) as stopped:
        trained(features, tmp_path, stop_when(7), epochs=EPOCHS, **EVERYTHING, steps_per_call=32)
    assert stopped.value.step == 6
    trained(features, tmp_path, epochs=EPOCHS, **EVERYTHING, steps_per_call=2)
    assert_same(tmp_path, uninterrupted)


def test_a_run_resumes_from_the_checkpoint_before_a_broken_one(features, uninterrupted, tmp_path):
    from support.training import EVERYTHING, stop_when, trained

    from train.errors import Stopped

    settings = {**EVERYTHING, "epochs": EPOCHS, "checkpoint_every": "1 step"}
    with pytest.raises(Stopped):
        trained(features, tmp_path, stop_when(14), **settings)
    *_, before, last = sorted((tmp_path / "checkpoints").glob("step-*"))
    state = last / "state.data-00000-of-00001"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    messages, _ = trained(features, tmp_path, **settings)
    assert any(f"Skipped: the checkpoint {last} is broken" in message for message in messages)
    step = CheckpointName.parse(before.name).step
    assert any(f"Resuming after step {step}." in message for message in messages)
    assert_same(tmp_path, uninterrupted)


def test_curves_have_no_duplicate_points_after_resuming(features, uninterrupted, tmp_path):
    from support.training import EVERYTHING, stop_when, trained
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from train.errors import Stopped

    settings = {**EVERYTHING, "epochs": EPOCHS, "checkpoint_every": "4 steps"}
    with pytest.raises(Stopped):
        trained(features, tmp_path, stop_when(13), **settings)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    for path in newest.iterdir():  # as after a kill: TensorBoard has epochs that no checkpoint has
        path.unlink()
    trained(features, tmp_path, **settings)
    assert_same(tmp_path, uninterrupted)
    for part in ("train", "validation"):
        accumulator = EventAccumulator(str(tmp_path / "tensorboard" / part), size_guidance={"tensors": 0}).Reload()
        assert [point.step for point in accumulator.Tensors("loss")] == list(range(1, EPOCHS + 1))


def test_a_loss_too_large_for_the_history_ends_training_as_one_that_is_not_finite_does(features, tmp_path):
    from support.training import trained

    with pytest.raises(
        TrainError, match=r"the loss is \d\.\d+e\+\d\d in step \d+ .* --set train.learning_rate=0.1 "
    ):
        trained(features, tmp_path, model="conv3", learning_rate=1)
    record = json.loads((tmp_path / "not-finite.json").read_text())
    assert float(record["loss"]) > 1e9
    assert record["bad"] == []


def test_probabilities_that_are_not_finite_end_an_evaluation_in_training(features, tmp_path):
    """In float16, after the last step of an epoch."""
    from support.training import trained

    settings = {"model": "conv3", "precision": "mixed_float16", "learning_rate": 1, "batch_size": 1024}
    with pytest.raises(TrainError, match="probabilities that are not finite: its training diverged"):
        trained(features, tmp_path, epochs=9, **settings)
    assert json.loads((tmp_path / "not-finite.json").read_text())["bad"] == []


def test_a_loss_that_is_not_finite_names_step_and_tracks_and_keeps_the_checkpoint(features, monkeypatch, tmp_path):
    """One track of the finished dataset is overwritten with infinity."""
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq
    from support.default_features import FORMAT
    from support.training import trained

    from featurize.dataset.dataset import open_dataset

    broken = tmp_path / "features"
    shutil.copytree(features, broken)
    shard = open_dataset(broken).in_folds({2, 3, 4})[0]
    path = broken / "shards" / shard.name
    table = pq.ParquetFile(path).read()
    footer = pq.read_metadata(path).metadata
    track = table["track"][0].as_py()
    numbers = FORMAT.array(table["mfcc"]).copy()
    numbers[0] = np.inf
    columns = [*(table[name] for name in ("track", "label", "segment", "start")), FORMAT.column_of(numbers)]
    with pq.ParquetWriter(path, FORMAT.schema) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=FORMAT.schema), row_group_size=32)
        writer.add_key_value_metadata({b"earmark": footer[b"earmark"]})
    (broken / "shards.parquet").unlink()  # it has the size of the shard before

    run = tmp_path / "run"
    with pytest.raises(TrainError, match=r"the loss is (nan|inf) in step \d+ \(epoch 1\)") as error:
        trained(broken, run, checkpoint_every="1 step")
    assert f"The features of {track} are not finite" in str(error.value)
    record = json.loads((run / "not-finite.json").read_text())
    assert record["bad"] == [track]
    assert track in record["tracks"]
    kept = sorted((run / "checkpoints").glob("step-*"))
    assert len(kept) == min(record["step"], 3)
    from support.training import final_state

    for tensor in final_state(run).values() if kept else ():
        if len(tensor) % 4 == 0:
            assert np.isfinite(np.frombuffer(tensor, np.float32)).all()
    with pytest.raises(TrainError, match=rf"in step {record['step'] + 1} "):
        trained(broken, run, checkpoint_every="1 step")
    # In longer calls, the same step is named, and nothing is saved after it.
    monkeypatch.setattr("train.fit.call_length._SECONDS", 1000)
    with pytest.raises(TrainError, match=rf"in step {record['step'] + 1} "):
        trained(broken, tmp_path / "longer", steps_per_call=50, checkpoint_every="60 minutes")
    assert json.loads((tmp_path / "longer" / "not-finite.json").read_text()) == record
    assert not list((tmp_path / "longer" / "checkpoints").glob("step-*"))


COMMAND = ["--set", "train.epochs=3", "--set", "train.batch_size=16", "--set", "train.shuffle_window=40"]
COMMAND += ["--set", "train.validation_fold=next", "--set", "train.checkpoint_every=2 steps"]

# Script that trains and kills itself at the moment that a line of code selects.
KILLED = """
    import os, signal, sys
    import jobs.pipeline, jobs.terminal.console
    from jobs.config import load_config
    from featurize.storage import StoragePath
    import train.evaluation.predictor, train.fit.loop, train.run

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    calls = 0
    def after(count, function):
        def counted(*arguments, **named):
            global calls
            calls += 1
            if calls == count:
                die()
            return function(*arguments, **named)
        return counted

    {moment}
    config = load_config(None, sys.argv[3:][1::2])
    features, out = StoragePath.of(sys.argv[1]), StoragePath.of(sys.argv[2])
    jobs.pipeline.make_model(features, out, config, jobs.terminal.console.ConsoleReporter())
"""
MOMENTS = {
    "in mid-epoch": "train.fit.loop.Loop._add_results = after(6, train.fit.loop.Loop._add_results)",
    "in an evaluation": "train.evaluation.predictor.softmax = after(3, train.evaluation.predictor.softmax)",
    # The run writes two files first; a checkpoint is two files of TensorFlow's and progress.json.
    "while a checkpoint is written": "StoragePath.write = after(7, StoragePath.write)",
    "before a checkpoint is complete": "StoragePath.write = after(8, StoragePath.write)",
    "while old checkpoints are removed": (
        "StoragePath.remove_empty_folder = after(1, StoragePath.remove_empty_folder)"
    ),
    "before the model is written": "train.run.Run.write = after(5, train.run.Run.write)",
}


@pytest.fixture(scope="module")
def reference(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    done = earmark("train", features, "--out", folder, *COMMAND)
    assert done.returncode == 0, done.stderr
    return folder


def hashes(folder):
    """Return a hash of each result of a run: weights and slots, history, and metrics."""
    import hashlib

    from support.training import figures, final_state

    parts = {"weights and slots": final_state(folder), "figures": figures(folder)}
    metrics = {k: v for k, v in Run(folder).read("metrics.json").items() if k != "judged"}
    return {
        name: hashlib.sha256(repr(part).encode()).hexdigest()[:16]
        for name, part in {**parts, "metrics": metrics}.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_to_the_same_bits(moment, features, reference, tmp_path):
    script = textwrap.dedent(KILLED).format(moment=MOMENTS[moment])
    command = [sys.executable, "-c", script, features, tmp_path, *COMMAND]
    killed = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    done = earmark("train", features, "--out", tmp_path, *COMMAND)
    assert done.returncode == 0, done.stderr
    print(moment, hashes(tmp_path))
    assert hashes(tmp_path) == hashes(reference)
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_a_run_killed_repeatedly_at_random_moments_gives_the_same_bits(features, reference, tmp_path):
    generator = np.random.default_rng(4)
    kills = 0
    while kills < 8:
        before = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
        command = [sys.executable, "-m", "jobs.cli", "train", features, "--out", tmp_path, *COMMAND]
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        # Kill only after a new checkpoint, so that each start makes progress.
        while process.poll() is None and before == {p.name for p in (tmp_path / "checkpoints").glob("step-*")}:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(float(generator.uniform(0, 0.6)))
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 3
    done = earmark("train", features, "--out", tmp_path, *COMMAND)
    assert done.returncode == 0, done.stderr
    print(f"{kills} kills", hashes(tmp_path), hashes(reference))
    assert hashes(tmp_path) == hashes(reference)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_prints_how_to_continue(signum, features, reference, tmp_path):
    settings = [*COMMAND[:-1], "train.checkpoint_every=60 minutes"]
    command = [sys.executable, "-m", "jobs.cli", "train", features, "--out", tmp_path, *settings]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "history.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signum
    assert "Stopped: a checkpoint holds all" in stderr
    assert "The same command continues from there." in stderr
    assert "Traceback" not in stderr
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == 1
    done = earmark("train", features, "--out", tmp_path, *settings)
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path) == hashes(reference)
    before = contents(tmp_path / "checkpoints")
    assert earmark("train", features, "--out", tmp_path, *settings).returncode == 0
    assert contents(tmp_path / "checkpoints") == before
