"""Datasets, runs and models from strangers: a command ends with one sentence that names the file, no traceback.

Commands run in this process; a run that is already trained makes `train` cheap: it opens and checks everything.
"""

import json
import random
import shutil
from pathlib import Path

import pytest
from hostile.files import broken_files, json_files, parquet_files, yaml_files
from support.training import trained
from typer.testing import CliRunner

from featurize.dataset.dataset import open_dataset
from train.evaluation.evaluate import evaluate_run
from train.report.run_page import write_run_page
from train.run import Run

# What reads each file. A command of the second list must refuse a file that is broken as a whole.
DATASET = {
    "dataset.json": (["status", "verify", "train", "evaluate"], ["verify", "train", "evaluate"]),
    "tracks.parquet": (["status", "verify", "train", "evaluate"], ["status", "verify", "train", "evaluate"]),
    "shards.parquet": (["verify", "train", "evaluate"], []),  # without it, footers are read
    "rejects.parquet": (["evaluate"], ["evaluate"]),
    "duplicates.parquet": (["evaluate"], ["evaluate"]),
    "music.json": (["evaluate"], []),
    "config.yaml": (["train"], []),
    "shard": (["status", "verify", "train", "evaluate"], ["verify", "evaluate"]),  # a finished run reads no shard
}
RUN = {
    "run.json": (["status", "train", "evaluate", "compare", "export"], ["evaluate", "compare"]),
    "model.json": (["train", "evaluate", "compare", "predict", "export"], ["evaluate", "compare", "predict"]),
    "history.json": (["status", "train", "evaluate", "compare"], ["evaluate", "compare"]),
    "metrics.json": (["status", "compare"], ["compare"]),
    "crossval.json": (["compare"], []),
    "config.yaml": (["compare"], ["compare"]),
    "model.keras": (["evaluate", "predict", "export"], ["evaluate", "predict"]),
}


@pytest.fixture(scope="module")
def place(features, music, logical_cpus, tmp_path_factory):
    """A dataset, an evaluated run on it, and a file to predict."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(features, root / "features")
    (root / "features" / "config.yaml").write_text(
        "featurize:\n  tracks_per_shard: 3\n  segments_per_track: 4\ntrain:\n"
    )
    trained(root / "features", root / "run", model="modulation", epochs=1)
    (root / "run" / "config.yaml").write_text("featurize:\n  tracks_per_shard: 3\ntrain:\n  epochs: 1\n")
    dataset = open_dataset(root / "features")
    evaluate_run(Run(root / "run"), dataset)
    write_run_page(Run(root / "run"), dataset)
    (root / "run" / "crossval.json").write_text(json.dumps(crossval()))
    shutil.copytree(root / "run", root / "run" / "fold=0")
    (root / "run" / "fold=0" / "crossval.json").unlink()
    shutil.copy(music / "bells" / "1-0.flac", root / "one.flac")
    return root


def crossval() -> dict[str, object]:
    figures = {"accuracy": 0.5, "macro_f1": 0.5}
    parts = dict.fromkeys(("tracks", "segments", "svm_tracks"), figures)
    return {
        "model": "modulation",
        "classes": ["bells", "pulses", "reeds"],
        "folds": [{"fold": 0, "epoch": 1, "count": 6, **parts}],
        "mean": parts,
        "deviation": parts,
        "confusion": dict.fromkeys(parts, [[1, 0, 0]] * 3),
    }


def arguments(command: str, root: Path) -> list[str]:
    features, run = str(root / "features"), str(root / "run")
    settings = {"model": "modulation", "epochs": 1, "validation_fold": "next", "batch_size": 16}
    settings |= {"learning_rate": 1e-3, "shuffle_window": 40}
    sets = [word for key, value in settings.items() for word in ("--set", f"train.{key}={value}")]
    return {
        "status": ["status", features],
        "status of a run": ["status", run],
        "verify": ["verify", features],
        "train": ["train", features, "--out", run, *sets],
        "evaluate": ["evaluate", run, "--features", features],
        "compare": ["compare", run, run, "--out", str(root / "compare.html")],
        "predict": ["predict", run, str(root / "one.flac")],
        "export": ["export", run, "--format", "keras", "--out", str(root / "out.keras")],
    }[command]


def check(command: str, root: Path, name: str, must_fail: bool = False) -> None:
    """Run a command; it succeeds, or ends with a sentence that names the file or, for a shard, its dataset."""
    from jobs.commands.app import app

    (root / "out.keras").unlink(missing_ok=True)
    done = CliRunner().invoke(app, arguments(command, root))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in ((1, 2) if must_fail else (0, 1, 2)), done.output
    if done.exit_code:
        assert "earmark: " in done.output or "Warning" in done.output
        # A model.json of another dataset is a run of another dataset; the message names both folders.
        other_dataset = "was trained on the dataset" in done.output
        assert other_dataset or name in " ".join(done.output.split()), done.output
        assert "Traceback" not in done.output
        assert "[type=" not in done.output  # pydantic's own words


def find(root: Path, folder: str, name: str) -> Path:
    """Return the path of a file of DATASET or RUN; `crossval.json` hides the run's own figures from `compare`."""
    if name == "shard":
        return min((root / "features" / "shards").rglob("*.parquet"))
    return root / folder / name


def cases(path: Path) -> list[tuple[str, bytes | None, bool]]:
    """Return name, content, and whether the content is broken as a whole."""
    content = path.read_bytes()
    whole = [(name, text, True) for name, text in broken_files(content)]
    special = {".json": json_files, ".yaml": yaml_files, ".parquet": parquet_files}.get(path.suffix)
    changed = [(name, text, False) for name, text in special(content)] if special else []
    unread = {"missing", "empty", "empty object", "null", "cut at the end"} if path.suffix == ".yaml" else set()
    return [(n, text, broken and n not in unread) for n, text, broken in [*whole, *changed]]


def attack(place: Path, folder: str, name: str, most: int, commands: set[str] | None = None) -> int:
    """Put hostile versions of a file in its place, and run what reads it; return the number of commands run.

    Args:
        place: Folder of the dataset and the run; left as it was.
        folder: `features` or `run`.
        name: A file of DATASET or RUN.
        most: Maximum number of versions.
        commands: Commands to run; None for all that read the file.
    """
    reading, refusing = (DATASET if folder == "features" else RUN)[name]
    reading = [command for command in reading if commands is None or command in commands]
    path = find(place, folder, name)
    chosen = cases(path)
    if len(chosen) > most:
        rest = [case for case in chosen if not case[2]]
        whole = [case for case in chosen if case[2]][:most]
        chosen = whole + random.Random(most).sample(rest, min(len(rest), most - len(whole)))
    intact = {file: file.read_bytes() for file in [*(place / "run").glob("*.*"), path] if file.is_file()}
    failures = []
    for case, hostile, broken in chosen:
        for command in reading:
            if folder == "run" and name != "crossval.json":
                (place / "run" / "crossval.json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            if hostile is not None:
                path.write_bytes(hostile)
            # A missing file is one of a folder that is not finished; the message names the folder.
            named = path.stem if hostile is not None and name != "shard" else folder
            try:
                of_run = command == "status" and folder == "run"
                check("status of a run" if of_run else command, place, named, broken and command in refusing)
            except Exception as error:
                failures.append(f"{command} with {name}, {case}: {type(error).__name__}: {str(error)[:300]}")
            for file, content in intact.items():
                file.write_bytes(content)
    assert not failures, f"{len(failures)} of {len(chosen) * len(reading)}:\n" + "\n".join(failures)
    return len(chosen) * len(reading)


QUICK = {"status", "verify", "train", "compare"}
FILES = [("features", name) for name in DATASET] + [("run", name) for name in RUN]


@pytest.mark.parametrize(("folder", "name"), [file for file in FILES if file[1] != "model.keras"])
def test_a_hostile_file_is_an_error_that_names_it(folder, name, place):
    reading = {*(DATASET if folder == "features" else RUN)[name][0]}
    assert attack(place, folder, name, 12, reading & QUICK) or not reading & QUICK


@pytest.mark.matrix
@pytest.mark.parametrize(("folder", "name"), FILES)
def test_every_hostile_file_is_an_error_that_names_it(folder, name, place):
    assert attack(place, folder, name, 100) >= 10
