"""Stopped, killed or torn at any moment, a run goes on to the very bits of a run left alone."""

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
def undisturbed(features, logical_cpus, tmp_path_factory):
    from support.training import EVERYTHING, trained

    folder = tmp_path_factory.mktemp("undisturbed")
    trained(features, folder, epochs=EPOCHS, **EVERYTHING)
    return folder


def assert_same(folder, undisturbed):
    from support.training import figures, final_state

    assert figures(folder) == figures(undisturbed)
    assert final_state(folder) == final_state(undisturbed)


# The stop is asked after each step, and after each batch of an evaluation: five steps an epoch, two batches for
# each of two folds.
@pytest.mark.parametrize("moment", [2, 6, 13], ids=["in mid-epoch", "in an evaluation", "in a later epoch"])
def test_stopped_and_gone_on_it_ends_with_the_same_bits(moment, features, undisturbed, tmp_path):
    from support.training import EVERYTHING, stop_when, trained

    from train.errors import Stopped

    with pytest.raises(Stopped) as stopped:
        trained(features, tmp_path, stop_when(moment), epochs=EPOCHS, **EVERYTHING)
    assert stopped.value.signal == signal.SIGTERM
    assert not (tmp_path / "model.keras").exists()
    said, _ = trained(features, tmp_path, epochs=EPOCHS, **EVERYTHING)
    assert any(f"Resuming after step {stopped.value.step}." in sentence for sentence in said)
    assert_same(tmp_path, undisturbed)


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(features, undisturbed, tmp_path):
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
    said, _ = trained(features, tmp_path, **settings)
    assert any(f"Skipped: the checkpoint {last} is broken" in sentence for sentence in said)
    step = CheckpointName.parse(before.name).step
    assert any(f"Resuming after step {step}." in sentence for sentence in said)
    assert_same(tmp_path, undisturbed)


def test_curves_have_no_point_twice_after_going_on(features, undisturbed, tmp_path):
    from support.training import EVERYTHING, stop_when, trained
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from train.errors import Stopped

    settings = {**EVERYTHING, "epochs": EPOCHS, "checkpoint_every": "4 steps"}
    with pytest.raises(Stopped):
        trained(features, tmp_path, stop_when(13), **settings)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    for path in newest.iterdir():  # as a kill would have left it: epochs shown that no checkpoint knows of
        path.unlink()
    trained(features, tmp_path, **settings)
    for part in ("train", "validation"):
        board = EventAccumulator(str(tmp_path / "tensorboard" / part), size_guidance={"tensors": 0}).Reload()
        assert [point.step for point in board.Tensors("loss")] == list(range(1, EPOCHS + 1))


def test_a_loss_that_is_no_number_names_step_and_tracks_and_keeps_the_checkpoint(features, tmp_path):
    """One track's numbers are broken on the disk, under the dataset's eyes."""
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq
    from support.training import trained

    from featurize.dataset.dataset import open_dataset
    from featurize.dataset.schema import SHARD_SCHEMA, mfcc_array, mfcc_column

    broken = tmp_path / "features"
    shutil.copytree(features, broken)
    shard = open_dataset(broken).in_folds({2, 3, 4})[0]
    path = broken / "shards" / shard.name
    table = pq.ParquetFile(path).read()
    footer = pq.read_metadata(path).metadata
    track = table["track"][0].as_py()
    numbers = mfcc_array(table["mfcc"]).copy()
    numbers[0] = np.inf
    columns = [*(table[name] for name in ("track", "label", "segment", "start")), mfcc_column(numbers)]
    with pq.ParquetWriter(path, SHARD_SCHEMA) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=SHARD_SCHEMA), row_group_size=32)
        writer.add_key_value_metadata({b"earmark": footer[b"earmark"]})

    run = tmp_path / "run"
    with pytest.raises(TrainError, match=r"the loss is (nan|inf) in step \d+ \(epoch 1\)") as error:
        trained(broken, run, checkpoint_every="1 step")
    assert f"The features of {track} are not finite" in str(error.value)
    noted = json.loads((run / "not-finite.json").read_text())
    assert noted["bad"] == [track]
    assert track in noted["tracks"]
    kept = sorted((run / "checkpoints").glob("step-*"))
    assert len(kept) == min(noted["step"], 3)
    from support.training import final_state

    for tensor in final_state(run).values() if kept else ():
        if len(tensor) % 4 == 0:
            assert np.isfinite(np.frombuffer(tensor, np.float32)).all()
    with pytest.raises(TrainError, match=rf"in step {noted['step'] + 1} "):
        trained(broken, run, checkpoint_every="1 step")


COMMAND = ["--set", "train.epochs=3", "--set", "train.batch_size=16", "--set", "train.shuffle_window=40"]
COMMAND += ["--set", "train.validation_fold=next", "--set", "train.checkpoint_every=2 steps"]

# Trains in a process of its own, which kills itself at a moment that a line of code describes.
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
    "in mid-epoch": "train.fit.loop.Loop._add_result = after(8, train.fit.loop.Loop._add_result)",
    "in an evaluation": "train.evaluation.predictor.softmax = after(3, train.evaluation.predictor.softmax)",
    # The run itself writes two files first; a checkpoint is two of TensorFlow's and progress.json.
    "while a checkpoint is written": "StoragePath.write = after(7, StoragePath.write)",
    "before a checkpoint is whole": "StoragePath.write = after(8, StoragePath.write)",
    "while old checkpoints are removed": "StoragePath.remove_folder = after(1, StoragePath.remove_folder)",
    "before the model is there": "train.run.Run.write = after(5, train.run.Run.write)",
}


@pytest.fixture(scope="module")
def alone(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    done = earmark("train", features, "--out", folder, *COMMAND)
    assert done.returncode == 0, done.stderr
    return folder


def hashes(folder):
    """What a run came to: the weights and slots, the figures, and the metrics."""
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
def test_killed_and_gone_on_it_ends_with_the_same_bits(moment, features, alone, tmp_path):
    script = textwrap.dedent(KILLED).format(moment=MOMENTS[moment])
    command = [sys.executable, "-c", script, features, tmp_path, *COMMAND]
    killed = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    done = earmark("train", features, "--out", tmp_path, *COMMAND)
    assert done.returncode == 0, done.stderr
    print(moment, hashes(tmp_path))
    assert hashes(tmp_path) == hashes(alone)
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_killed_again_and_again_at_any_moment(features, alone, tmp_path):
    generator = np.random.default_rng(4)
    kills = 0
    while kills < 8:
        before = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
        command = [sys.executable, "-m", "jobs.cli", "train", features, "--out", tmp_path, *COMMAND]
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        # From the first new checkpoint on: so each start comes further than the one before.
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
    print(f"{kills} kills", hashes(tmp_path), hashes(alone))
    assert hashes(tmp_path) == hashes(alone)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(signum, features, alone, tmp_path):
    settings = [*COMMAND[:-1], "train.checkpoint_every=60 minutes"]
    command = [sys.executable, "-m", "jobs.cli", "train", features, "--out", tmp_path, *settings]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "history.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signum)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signum
    assert "Stopped: a checkpoint holds all" in said
    assert "The same command continues from there." in said
    assert "Traceback" not in said
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == 1
    done = earmark("train", features, "--out", tmp_path, *settings)
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path) == hashes(alone)
    before = contents(tmp_path / "checkpoints")
    assert earmark("train", features, "--out", tmp_path, *settings).returncode == 0
    assert contents(tmp_path / "checkpoints") == before
