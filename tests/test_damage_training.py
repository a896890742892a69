"""Accidents during training: a shard or the run is lost or damaged, and training ends with a sentence."""

import json
import shutil

import pytest
from support.command_line import earmark_here

from featurize.dataset.dataset import open_dataset
from featurize.errors import DatasetError
from featurize.storage import StoragePath
from train.checkpoint_name import CheckpointName
from train.errors import TrainError
from train.run import Run

pytestmark = pytest.mark.usefixtures("logical_cpus")


def _after(calls, accident):
    """Return a stop function that causes an accident in its call number `calls`, and never requests a stop."""
    left = iter(range(calls))

    def stop():
        if next(left, None) is None:
            accident()

    return stop


def _damage(shard):
    content = bytearray(shard.path.read())
    for position in range(200, len(content) - 20_000, 500):
        content[position] ^= 1
    shard.path.local.write_bytes(content)


@pytest.mark.parametrize("accident", ["damaged", "removed", "emptied", "whole dataset removed"])
def test_a_dataset_that_is_damaged_during_training_ends_it_with_a_sentence(accident, features, tmp_path):
    from support.training import trained

    folder = tmp_path / "features"
    shutil.copytree(features, folder)

    def cause():
        for shard in open_dataset(folder).shards if folder.exists() else []:
            match accident:
                case "damaged":
                    _damage(shard)
                case "removed":
                    shard.path.local.unlink()
                case "emptied":
                    shard.path.local.write_bytes(b"")
                case _:
                    shutil.rmtree(folder)
                    return

    with pytest.raises(DatasetError) as caught:
        trained(folder, tmp_path / "run", _after(3, cause), epochs=30)
    message = str(caught.value)
    assert message.startswith(f"the shard {folder / 'shards'}/fold=")
    assert f"Type: earmark featurize MUSIC --out {folder}, which writes it again" in message
    assert "\n" not in message
    assert "Traceback" not in message


def test_an_evaluation_of_a_dataset_that_is_damaged_ends_with_a_sentence_and_keeps_the_earlier_one(
    features, tmp_path
):
    from support.training import trained

    folder, run = tmp_path / "features", tmp_path / "run"
    shutil.copytree(features, folder)
    trained(folder, run, epochs=1)
    assert earmark_here("evaluate", run).returncode == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {"report.html", "metrics.json", "part-00000-of-00001.parquet"} <= {path.name for path in before}
    [*_, shard] = open_dataset(folder).in_folds({0})
    _damage(shard)
    done = earmark_here("evaluate", run)
    assert done.returncode == 1
    assert f"earmark: the shard {shard.path} cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("calls", [2, 5, 9], ids=["in an epoch", "in an evaluation", "in a later epoch"])
def test_a_run_that_is_removed_during_training_ends_it_with_a_sentence(calls, features, tmp_path):
    from support.training import trained

    run = tmp_path / "run"
    with pytest.raises(TrainError, match=rf"{run} was removed or replaced while its model was trained"):
        trained(features, run, _after(calls, lambda: shutil.rmtree(run, ignore_errors=True)), epochs=3)
    assert not (run / "model.keras").exists()
    assert not (run / "history.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["shards", pytest.param("run", marks=pytest.mark.matrix)])
def test_two_workers_end_with_a_sentence_when_files_are_lost(lost, features, tmp_path):
    import subprocess
    import sys
    import time

    folder, run = tmp_path / "features", Run(tmp_path / "run")
    shutil.copytree(features, folder)
    settings = {"workers": 2, "epochs": 300, "shuffle_window": 40, "batch_size": 16, "checkpoint_every": "1 epoch"}
    sets = [word for key, value in settings.items() for word in ("--set", f"train.{key}={value}")]
    command = [sys.executable, "-m", "jobs.cli", "train", folder, "--out", run.folder.local, *sets]
    process = subprocess.Popen(map(str, command), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not run.latest_step() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    if lost == "shards":
        for shard in open_dataset(folder).shards:
            shard.path.local.unlink()
    else:
        (run.folder.local / "run.json").unlink()
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1, errors
    expected = "earmark: the shard " if lost == "shards" else "was removed or replaced while its model was trained"
    assert expected in errors
    assert "Traceback" not in errors


def test_the_best_checkpoint_is_verified_before_it_becomes_the_model(features, monkeypatch, tmp_path):
    from support.training import trained

    run = tmp_path / "run"
    # A latest checkpoint that is a copy of the best one would be used instead.
    monkeypatch.setattr("train.fit.early_stopping.rank", lambda entry, config: -entry.epoch)
    settings = {"epochs": 2, "keep_checkpoints": 1}
    trained(features, run, **settings)
    (run / "model.keras").unlink()
    [best] = (run / "checkpoints" / "best").iterdir()
    shutil.copytree(best, tmp_path / "whole")
    for broken in ("flipped", "truncated", "missing"):
        shutil.rmtree(best, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", best)
        data = best / "state.data-00000-of-00001"
        content = bytearray(data.read_bytes())
        match broken:
            case "flipped":
                content[len(content) // 2] ^= 1
                data.write_bytes(content)
            case "truncated":
                data.write_bytes(content[:100])
            case _:
                shutil.rmtree(best)
        with pytest.raises(
            TrainError, match=r"the checkpoint of the best epoch, .*, is broken: .*remove .*checkpoints"
        ):
            trained(features, run, **settings)
        assert not (run / "model.keras").exists()


def test_a_copy_of_the_best_checkpoint_replaces_a_broken_one(tmp_path):
    from test_checkpoints import Saved

    saved = Saved(tmp_path)
    saved.take(4, 1)
    saved.save()
    saved.save(best=True)
    state = saved.state()
    data = tmp_path / "best" / "step-00000004-epochs-1" / "state.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[-5] ^= 1
    data.write_bytes(content)
    saved.take(1)
    saved.checkpoints.restore_best(CheckpointName(4, 1))
    assert saved.state() == state


def test_a_lost_history_is_written_again_from_the_checkpoint(features, tmp_path):
    from support.training import trained

    trained(features, tmp_path, epochs=2)
    before = json.loads((tmp_path / "history.json").read_text())
    model = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "history.json").unlink()
    trained(features, tmp_path, epochs=2)
    assert json.loads((tmp_path / "history.json").read_text()) == before
    assert len((tmp_path / "model.keras").read_bytes()) == len(model)
    assert Run(StoragePath.of(tmp_path)).trained().epochs == 2
