"""`earmark tune`: blind to the test fold, the same result after kills, and refusals before any training."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from support.command_line import earmark, earmark_here
from support.training import figures, final_state, trained

import jobs.tuning.tune
from featurize.execution.folder_lock import only_run_in
from featurize.storage import StoragePath
from jobs.config import load_config
from jobs.tuning.trials import read_progress
from train.config import TrainConfig
from train.run import Run
from train.summary_records import TuneSummary

SPACE = "train.learning_rate: {loguniform: [1e-4, 3e-2]}\ntrain.dropout: [0, 0.2, 0.4]\n"
SETTINGS = ["train.model=modulation", "train.epochs=2", "train.batch_size=16", "train.normalize=true"]
OPTIONS = ["--samples", "8", *(word for setting in SETTINGS for word in ("--set", setting))]
TRIALS = range(1, 9)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    file = tmp_path_factory.mktemp("space") / "space.yaml"
    file.write_text(SPACE)
    return file


@pytest.fixture(scope="module")
def without_test_fold(features, tmp_path_factory):
    """The dataset with other bytes, so with other labels and segments, in the shards of the test fold."""
    folder = tmp_path_factory.mktemp("blind") / "features"
    shutil.copytree(features, folder)
    shards = [*(folder / "shards" / "fold=0").iterdir()]
    assert shards
    for shard in shards:
        shard.write_bytes(os.urandom(shard.stat().st_size))
    return folder


def test_a_trial_reads_nothing_of_the_test_fold(features, without_test_fold, logical_cpus, tmp_path):
    for folder, name in ((features, "a"), (without_test_fold, "b")):
        trained(folder, tmp_path / name, epochs=1)
    assert final_state(tmp_path / "a") == final_state(tmp_path / "b")
    assert figures(tmp_path / "a") == figures(tmp_path / "b")
    assert all(set(epoch.held_out) == {"validation"} for epoch in Run(tmp_path / "b").history())


@pytest.mark.parametrize("test_accuracy", [0.0, 1.0])
def test_trials_are_compared_by_the_best_epoch_of_the_validation_fold(test_accuracy, tmp_path):
    def scores(accuracy):
        return {"loss": 1.0, "accuracy": accuracy, "track_accuracy": accuracy, "track_macro_f1": accuracy}

    entries = [
        {
            "epoch": number,
            "train": {"loss": 1.0, "accuracy": 0.5},
            **dict.fromkeys(("learning_rate", "seconds", "examples_per_second", "wait_fraction"), 1.0),
            "validation": scores(accuracy),
            "test": scores(test_accuracy),
        }
        for number, accuracy in enumerate((0.25, 0.75, 0.5), 1)
    ]
    (tmp_path / "history.json").write_text(json.dumps(entries))
    config = TrainConfig(epochs=8, validation_fold="next")
    assert read_progress(Run(tmp_path), config).ranks == ((0.25, -1.0), (0.75, -1.0), (0.75, -1.0))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["train.best_epoch_on_test=true"], "Add: --set train.best_epoch_on_test=false"),
        (["train.validation_fold=none"], "Add: --set train.validation_fold=next"),
        (["train.ensemble=2"], "Search with --set train.ensemble=1, and train the best settings as an ensemble"),
        (["train.freeze=[conv1]"], "begins with random ones here. Add: --set 'train.freeze=[]'"),
        (["train.evaluate_every=2"], "Add: --set train.evaluate_every=1"),
        (["train.mask_frames=400"], "trial 1: segments of 40 features x 217 frames do not fit the settings"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_any_training(
    options, expected, features, space, tmp_path
):
    out = tmp_path / "runs"
    words = [word for option in options for word in ("--set", option)]
    done = earmark_here("tune", features, "--space", space, "--out", out, *OPTIONS, *words)
    assert done.returncode == (1 if "trial" in expected else 2)
    assert expected in done.stderr
    assert not out.exists()


def test_a_cross_validation_refuses_frozen_layers_before_any_training(features, tmp_path):
    done = earmark_here("crossval", features, "--out", tmp_path / "runs", "--set", "train.freeze=[conv1]")
    assert done.returncode == 2
    assert "Add: --set 'train.freeze=[]'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_second_search_in_a_folder_changes_nothing_there(features, tmp_path):
    (tmp_path / "net.py").write_text("def build(input_shape, classes, config): ...")
    file, out = tmp_path / "space.yaml", tmp_path / "out"
    file.write_text(f"train.model: [conv3, '{tmp_path / 'net.py'}:build']")
    with only_run_in(StoragePath.of(out)):
        done = earmark_here("tune", features, "--space", file, "--out", out)
    assert done.returncode == 1
    assert "is already running in" in done.stderr
    assert [path.name for path in out.iterdir()] == [".lock"]


@pytest.mark.parametrize(("model", "option"), [("conv3", ""), ("net.py:build", " --trust-code")])
def test_the_next_command_trusts_code_if_the_model_of_the_best_trial_is_a_users(
    model, option, tmp_path, monkeypatch
):
    result = {"trial": 1, "settings": {}, "state": "trained", "epochs": 1, "epoch": 1}
    figures = dict.fromkeys(("loss", "accuracy", "track_accuracy", "track_macro_f1"), 1.0)
    summary = {"dataset": "d", "select_by": "accuracy", "rungs": [], "best": 1}
    summary["trials"] = [{**result, "validation": figures}]
    settings = TrainConfig(model=model).model_dump()
    Run(tmp_path / "trial=1").write("run.json", {"dataset": "d", "features": "f", "train": settings})
    found = TuneSummary.model_validate(summary)
    monkeypatch.setattr(jobs.tuning.tune, "tune", lambda *arguments: found)
    done = earmark_here("tune", "f", "--space", "s.yaml", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"next      earmark evaluate {tmp_path / 'trial=1'}{option}\n")


def test_a_folder_of_another_search_is_refused_before_any_training(features, space, tmp_path):
    config = TrainConfig.model_validate({**TrainConfig().model_dump(), "epochs": 2, "learning_rate": 0.5})
    run = {"dataset": json.loads((features / "dataset.json").read_text())["id"], "features": str(features)}
    run |= {"train": config.model_dump(), "order": 2}
    (tmp_path / "trial=3").mkdir()
    (tmp_path / "trial=3" / "run.json").write_text(json.dumps(run))
    done = earmark_here("tune", features, "--space", space, "--out", tmp_path, *OPTIONS)
    assert done.returncode == 1
    assert "trial=3 holds a run made with other settings:" in done.stderr
    assert "train.learning_rate: 0.5 there, " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["trial=3"]
    done = earmark_here("status", tmp_path)
    assert "trials    1 begun, 0 of them trained to the end" in done.stdout
    assert "unfinished: run the same tune command to continue" in done.stdout


def search(features, space, out, *options):
    command = [sys.executable, "-m", "jobs.cli", "tune", features, "--space", space, "--out", out]
    return subprocess.Popen([*map(str, command), *OPTIONS, *options], stderr=subprocess.PIPE, text=True)


def read_until(running, text):
    for line in running.stderr:
        if text in line:
            return
    pytest.fail(f"{text!r} was not printed")


@pytest.mark.matrix
def test_a_search_that_is_killed_and_stopped_finds_the_same(features, without_test_fold, space, tmp_path):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    done = earmark("tune", features, "--space", space, "--out", undisturbed, *OPTIONS, "--at-once", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((undisturbed / "tune.json").read_text())

    running = search(without_test_fold, space, out, "--at-once", "1")
    read_until(running, "trial 2 | epoch 1/2")
    running.kill()
    running.communicate(timeout=60)
    running = search(without_test_fold, space, out, "--at-once", "1")
    read_until(running, "Trial 3 of 8")
    running.send_signal(signal.SIGTERM)
    rest = running.communicate(timeout=60)[1]
    assert running.returncode == 143
    assert "of 8 trials are finished, and checkpoints hold the rest. The same command continues" in rest
    kept = (out / "trial=1" / "model.keras").stat().st_mtime_ns
    done = earmark("tune", without_test_fold, "--space", space, "--out", out, *OPTIONS, "--at-once", "2")
    assert done.returncode == 0, done.stderr
    assert "Trial 1 of 8" not in done.stderr
    assert (out / "trial=1" / "model.keras").stat().st_mtime_ns == kept

    assert (out / "tune.json").read_bytes() == (undisturbed / "tune.json").read_bytes()
    assert (out / "best.yaml").read_bytes() == (undisturbed / "best.yaml").read_bytes()
    summary = Run(out).search()
    assert {trial.state for trial in summary.trials} == {"trained", "stopped"}
    for trial in summary.trials:
        runs = [Run(folder / f"trial={trial.trial}") for folder in (undisturbed, out)]
        of_epochs = [[epoch.validation for epoch in run.history()[: trial.epochs]] for run in runs]
        assert of_epochs[0] == of_epochs[1]
        assert len(of_epochs[0]) == trial.epochs
        assert runs[1].metrics() is None
        if trial.state == "trained":
            assert final_state(runs[0].folder.local) == final_state(runs[1].folder.local)
            assert figures(runs[0].folder.local) == figures(runs[1].folder.local)

    status = json.loads(earmark_here("status", out, "--json").stdout)["search"]
    assert (status["complete"], status["best"], len(status["trials"])) == (True, summary.best, 8)
    best = undisturbed / summary.best_name
    for folder in (best, undisturbed / "trial=1"):
        done = earmark_here("evaluate", folder)
        assert done.returncode == 0, done.stderr
    done = earmark_here("compare", best, undisturbed / "trial=1", "--out", tmp_path / "compare.html")
    assert done.returncode == 0, done.stderr
    best_settings = load_config(out / "best.yaml", []).train
    assert Run(best).config() == best_settings.model_copy(update={"test_fold": 0})
