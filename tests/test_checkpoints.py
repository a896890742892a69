"""Checkpoints: saved, kept, skipped if broken, and restored to the bit."""

import json
import shutil
import tempfile
import threading

import numpy as np
import pytest
from support.disks import small_disk
from support.logs import logged

from featurize.storage import StoragePath
from train.checkpoint_name import CheckpointName, complete_checkpoints
from train.errors import TrainError
from train.records import EpochRecord, HeldOutFigures, TrainFigures
from train.run import Run


def record(epoch):
    """Return the record of an epoch without a validation fold."""
    figures = HeldOutFigures(loss=1.0, accuracy=0.5, track_accuracy=0.5, track_macro_f1=0.5)
    times = {"seconds": 1.0, "examples_per_second": 9.0, "wait_fraction": 0.1}
    train = TrainFigures(loss=1.0, accuracy=0.5)
    return EpochRecord(epoch=epoch, train=train, learning_rate=0.1, **times, test=figures)


class Saved:
    """A model of two weights, its optimizer and their checkpoints; every gradient is 1."""

    def __init__(self, folder, keep=2):
        import keras

        from train.fit.background_writer import BackgroundWriter
        from train.fit.checkpoints import Checkpoints
        from train.fit.train_state import TrainState

        self.model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        self.optimizer = keras.optimizers.Adam(0.1)
        self.optimizer.build(self.model.trainable_variables)
        self.progress = TrainState()
        self.messages = []
        self.writer = BackgroundWriter()
        self.checkpoints = Checkpoints(StoragePath.of(folder), self.model, self.optimizer, keep, self.writer)

    def save(self, best=False):
        """Save a checkpoint and wait until it is written."""
        (self.checkpoints.save_best if best else self.checkpoints.save)(self.progress)
        self.writer.finish()

    def take(self, steps, epochs=0):
        import keras

        for _ in range(steps):
            self.optimizer.apply([keras.ops.ones_like(v) for v in self.model.trainable_variables])
        self.progress.step += steps
        for _ in range(epochs):
            self.progress.history.append(record(len(self.progress.history) + 1))

    def state(self):
        return [np.array(v).tobytes() for v in (*self.model.variables, *self.optimizer.variables)]

    def restore(self):
        with logged("train") as self.messages:
            self.progress = self.checkpoints.restore_latest()
        return self.progress


@pytest.fixture
def run(tmp_path, logical_cpus):
    """A run that has saved three checkpoints and kept two: after step 4 (one epoch) and step 6."""
    saved = Saved(tmp_path)
    for steps, epochs in ((2, 0), (2, 1), (2, 0)):
        saved.take(steps, epochs)
        saved.save()
    return saved


def names(folder):
    return [str(name) for name in complete_checkpoints(StoragePath.of(folder))]


def test_the_latest_is_restored_and_the_oldest_are_removed(run, tmp_path):
    run.progress.correct, run.progress.loss_sum = 3, 0.1
    run.take(1)
    run.save()
    assert names(tmp_path) == ["step-00000006-epochs-1", "step-00000007-epochs-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names(tmp_path)
    other = Saved(tmp_path)
    assert other.state() != run.state()
    assert other.restore() == run.progress
    assert other.state() == run.state()
    assert other.messages == []
    written = json.loads((tmp_path / "step-00000007-epochs-1" / "progress.json").read_bytes())
    assert written["right"] == 3
    assert "correct" not in written


def test_without_a_checkpoint_training_starts_at_step_0(tmp_path, logical_cpus):
    new = Saved(tmp_path / "nothing")
    before = new.state()
    assert new.restore().step == 0
    assert new.state() == before


def test_progress_of_an_older_version_is_read():
    from train.fit.train_state import TrainState

    rest = {"loss_sum": 1.5, "right": 40, "seconds": 2.0, "waited": 0.5}
    text = json.dumps({"step": 7, "history": [record(1).to_json()], **rest}).encode()
    progress = TrainState.from_json(text)
    assert progress == TrainState(7, [record(1)], 1.5, 40, 2.0, 0.5)
    assert json.loads(progress.to_json()) == json.loads(text)
    for broken in (text[:-10], b"[]", b'{"step": "7"}', b'{"step": 7, "wrong": 1}'):
        with pytest.raises((TypeError, ValueError)):
            TrainState.from_json(broken)


@pytest.mark.parametrize("file", ["state.data-00000-of-00001", "state.index", "progress.json"])
def test_a_broken_checkpoint_is_skipped_and_removed(run, tmp_path, file):
    last = tmp_path / "step-00000006-epochs-1"
    content = (last / file).read_bytes()
    (last / file).write_bytes(content[: len(content) // 2])
    other = Saved(tmp_path)
    assert other.restore().step == 4
    assert len(other.messages) == 1
    assert other.messages[0].startswith(f"Skipped: the checkpoint {last} is broken (")
    assert names(tmp_path) == ["step-00000004-epochs-1"]
    assert not last.exists()


def test_an_unfinished_checkpoint_is_removed(run, tmp_path):
    unfinished = tmp_path / "step-00000008-epochs-2"
    shutil.copytree(tmp_path / "step-00000006-epochs-1", unfinished)
    (unfinished / "progress.json").unlink()
    other = Saved(tmp_path)
    assert other.restore().step == 6
    assert other.messages == []
    assert not unfinished.exists()


def test_other_files_among_the_checkpoints_are_kept(run, tmp_path):
    unfinished = tmp_path / "step-00000008-epochs-2"
    others = ["notes/a.txt", "best/mine/b", "step-1/c", "step-00000008-epochs-2/mine.txt", ".mine.tmp"]
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (unfinished / "state.index").write_bytes(b"x")
    oldest = tmp_path / "step-00000004-epochs-1" / "mine.txt"
    oldest.write_bytes(b"x")
    other = Saved(tmp_path)
    assert other.restore().step == 6
    assert all((tmp_path / name).exists() for name in others)
    assert not (unfinished / "state.index").exists()
    other.take(2, 1)
    other.save()
    assert names(tmp_path) == ["step-00000006-epochs-1", "step-00000008-epochs-2"]
    assert [path.name for path in oldest.parent.iterdir()] == ["mine.txt"]


def test_with_another_folder_to_write_to_nothing_is_removed(run, tmp_path):
    from train.fit.checkpoints import Checkpoints

    broken = tmp_path / "step-00000006-epochs-1" / "progress.json"
    broken.write_bytes(b"{")
    own = tmp_path.parent / f"{tmp_path.name}-own"
    other = Saved(tmp_path)
    other.checkpoints = Checkpoints(
        StoragePath.of(tmp_path), other.model, other.optimizer, 2, other.writer, StoragePath.of(own)
    )
    assert other.restore().step == 4
    assert broken.exists()
    other.save()
    assert names(own) == ["step-00000004-epochs-1"]


def test_the_best_is_kept_beside_the_latest(run, tmp_path):
    run.save(best=True)
    best = run.state()
    run.take(3, 1)
    run.save()
    assert run.state() != best
    run.checkpoints.restore_best(CheckpointName(6, 1))
    assert run.state() == best
    assert names(tmp_path / "best") == ["step-00000006-epochs-1"]
    for _ in range(2):
        run.take(1)
        run.save(best=True)
    # The latest checkpoint, of step 9, does not know of those of the steps 10 and 11.
    assert names(tmp_path / "best") == ["step-00000006-epochs-1", "step-00000011-epochs-2"]
    run.save()
    assert names(tmp_path / "best") == ["step-00000011-epochs-2"]


def test_a_run_that_resumes_before_its_best_epoch_has_the_one_before(run, tmp_path):
    """Killed after the best checkpoint of a later epoch, and before a latest one."""
    run.save(best=True)
    best = run.state()
    run.take(3, 1)
    run.save(best=True)
    other = Saved(tmp_path)
    assert other.restore().step == 6
    other.take(4, 1)  # another training, in which no later epoch is better
    other.save()
    other.checkpoints.restore_best(CheckpointName(6, 1))
    assert other.state() == best
    with pytest.raises(
        TrainError, match=r"the checkpoint of the best epoch, .*step-00000009-epochs-2, is broken: it is"
    ):
        other.checkpoints.restore_best(CheckpointName(9, 2))


def test_names_are_parsed_as_they_are_written():
    for name in (CheckpointName(0, 0), CheckpointName(320, 7), CheckpointName(123456789, 1000)):
        assert CheckpointName.parse(str(name)) == name
    assert str(CheckpointName(320, 7)) == "step-00000320-epochs-7"
    for other in ("best", "step-320-epochs-7", "step-00000320", "step-00000320-epochs-7.tmp"):
        assert CheckpointName.parse(other) is None
    assert max(CheckpointName(99999999, 9), CheckpointName(100000000, 9)).step == 100000000


def test_the_latest_step_of_a_run_ignores_incomplete_and_best_checkpoints(tmp_path):
    run = Run(tmp_path)
    assert run.latest_step() == 0
    for path in (
        "step-00000004-epochs-0/progress.json",
        "step-00000008-epochs-0/state.index",
        "best/step-00000012-epochs-1/progress.json",
        "other/progress.json",
    ):
        (run.checkpoints / path).write(b"{}")
    assert run.latest_step() == 4


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, logical_cpus):
    saved, may_write = Saved(tmp_path), threading.Event()
    saved.take(2)
    state = saved.state()
    saved.writer.submit(may_write.wait)
    saved.checkpoints.save(saved.progress)
    saved.take(3)  # the snapshot is from before
    assert names(tmp_path) == []
    may_write.set()
    saved.writer.finish()
    other = Saved(tmp_path)
    assert other.restore().step == 2
    assert other.state() == state


def test_a_checkpoint_that_cannot_be_written_ends_training(tmp_path, logical_cpus):
    (tmp_path / "step-00000002-epochs-0").write_bytes(b"a file where a folder is needed")
    saved = Saved(tmp_path)
    saved.take(2)
    with pytest.raises(TrainError, match=f"cannot write a checkpoint to {tmp_path}: "):
        saved.save()
    with pytest.raises(TrainError, match="cannot write a checkpoint"):
        saved.checkpoints.save(saved.progress)


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning(run, tmp_path):
    state = tmp_path / "step-00000004-epochs-1" / "state.index"
    state.unlink()
    state.mkdir()
    run.take(1)
    with logged("train") as messages:
        run.save()
    assert len(messages) == 1
    assert messages[0].startswith("Cannot remove an old checkpoint: ")
    assert "step-00000007-epochs-1" in names(tmp_path)


def test_a_full_folder_for_temporary_files_is_named(run, tmp_path, monkeypatch):
    disk, folder = tmp_path / "temporary", tmp_path / "checkpoints"
    with small_disk(disk, "4k"):
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(TrainError) as caught:
            Saved(folder).checkpoints.save(run.progress)
        assert not list(disk.iterdir())
    assert str(caught.value).startswith(
        f"cannot write a checkpoint to the folder for temporary files, {disk}: No space left on device"
    )
    assert not folder.exists()
