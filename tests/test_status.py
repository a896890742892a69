"""`earmark status` of many runs: a search or a cross-validation that is extended, and the members of ensembles."""

import json

import pytest
from test_records import FILES
from typer.testing import CliRunner

from featurize.storage import StoragePath
from jobs.commands.app import app
from jobs.terminal.status import progress_lines, progress_record
from train.run import Run

FIGURES = dict.fromkeys(("loss", "accuracy", "track_accuracy", "track_macro_f1"), 1.0)


def begin(folder, *others):
    folder.mkdir(parents=True)
    for name in ("run.json", *others):
        (folder / name).write_text(json.dumps(FILES[name]) if name in FILES else "")


def test_a_cross_validation_that_gets_more_seeds_is_not_complete_until_its_end(tmp_path):
    folder = StoragePath.of(tmp_path)
    of_one_seed = {key: value for key, value in FILES["crossval.json"].items() if key != "by_seed"}
    Run(tmp_path).write("crossval.json", of_one_seed)
    begin(tmp_path / "fold=0", "metrics.json")
    assert progress_record(folder)["cross_validation"]["complete"] is True
    assert "\nmean      tracks accuracy" in progress_lines(folder)
    begin(tmp_path / "seed=8" / "fold=0")
    found = progress_record(folder)["cross_validation"]
    assert (found["complete"], found["mean"]) == (False, None)
    assert progress_lines(folder).endswith("state     unfinished: run the same crossval command to continue")
    Run(tmp_path).write("crossval.json", FILES["crossval.json"])  # of both seeds
    assert progress_record(folder)["cross_validation"]["complete"] is False
    (tmp_path / "seed=8" / "fold=0" / "metrics.json").write_text(json.dumps(FILES["metrics.json"]))
    assert progress_record(folder)["cross_validation"]["complete"] is True
    Run(tmp_path).write("crossval.json", of_one_seed)  # fewer seeds again
    assert progress_record(folder)["cross_validation"]["complete"] is True


@pytest.mark.parametrize("around", [["music"], [], [".DS_Store", "desktop.ini", "music"]])
def test_the_folder_of_a_demo_shows_its_run(around, tmp_path):
    begin(tmp_path / "run", "model.keras")
    for name in around:
        (tmp_path / name).mkdir()
    done = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "saved     the model" in done.stdout
    (tmp_path / "other").mkdir()
    assert CliRunner().invoke(app, ["status", str(tmp_path)]).exit_code == 1


@pytest.fixture
def search(tmp_path):
    """A search with a trained trial, a stopped and a diverged one."""
    results = [
        {"trial": number, "settings": {}, "state": state, "epochs": 1, "epoch": 1, "validation": FIGURES}
        for number, state in enumerate(("trained", "stopped", "diverged"), 1)
    ]
    summary = {"dataset": "d", "select_by": "accuracy", "rungs": [1], "best": 1, "trials": results}
    Run(tmp_path).write("tune.json", summary)
    begin(tmp_path / "trial=1", "model.keras")
    begin(tmp_path / "trial=2")
    begin(tmp_path / "trial=3")
    return StoragePath.of(tmp_path)


def test_a_search_that_gets_more_trials_is_not_complete_until_its_end(search):
    found = progress_record(search)["search"]
    assert (found["complete"], found["best"]) == (True, 1)
    assert progress_lines(search).endswith("best      trial=1 of 3 trials")
    begin(search.local / "trial=4")
    found = progress_record(search)["search"]
    assert (found["complete"], found["best"]) == (False, None)
    assert progress_lines(search).endswith("state     unfinished: run the same tune command to continue")


def test_a_fold_that_trains_an_ensemble_shows_the_member_at_work(tmp_path):
    fold = tmp_path / "fold=0"
    begin(fold)
    begin(fold / "members" / "0", "model.keras", "history.json")
    begin(fold / "members" / "1", "history.json")
    epochs, total = len(FILES["history.json"]), Run(fold).info().epochs
    assert progress_lines(StoragePath.of(tmp_path)).splitlines()[1] == (
        f"          fold=0: 1 of 2 members trained, epoch {epochs} of {total}"
    )
