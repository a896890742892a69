"""The matrix: each command, in a form that takes seconds, what it starts from, and what it may leave."""

import json
import shutil
import zipfile
from pathlib import Path

import pyarrow.parquet as pq

SETTINGS = ["--set", "featurize.segments_per_track=4", "--set", "featurize.tracks_per_shard=3"]
TRAINING = ["--set", "train.model=modulation", "--set", "train.epochs=2", "--set", "train.device=cpu"]


def commands(music: Path, features: Path, run: Path, out: Path) -> dict[str, list[str]]:
    """Return a command line of each command that takes longer than its imports, by its name.

    Args:
        music: Collection.
        features: Its dataset.
        run: A run on it.
        out: Folder of all outputs; `prepare` puts there what a command changes in place.
    """
    words: dict[str, list[object]] = {
        "featurize": ["featurize", music, "--out", out / "features", *SETTINGS],
        "compact": ["compact", out / "features", "--set", "featurize.tracks_per_shard=16"],
        "run": ["run", music, "--out", out / "run", *SETTINGS, *TRAINING],
        "train": ["train", features, "--out", out / "run", *TRAINING],
        "crossval": ["crossval", features, "--out", out / "folds", *TRAINING],
        "evaluate": ["evaluate", out / "run"],
        "export": ["export", run, "--format", "keras", "--out", out / "model.keras"],
        "compare": ["compare", run, run, "--out", out / "compare.html"],
        "predict": ["predict", run, music],
        "verify": ["verify", features],
        "demo": ["demo", "--out", out / "demo"],
    }
    return {name: [str(word) for word in line] for name, line in words.items()}


def prepare(command: str, features: Path, run: Path, out: Path) -> None:
    """Copy what a command changes in place into its output folder, unless it is there."""
    if command == "evaluate" and not (out / "run").exists():
        shutil.copytree(run, out / "run")
    if command == "compact" and not (out / "features").exists():
        shutil.copytree(features, out / "features")


def check_whole(folder: Path) -> None:
    """Read every file that has its final name."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".parquet":
                pq.read_table(path, partitioning=None)
            case ".keras":
                assert zipfile.ZipFile(path).testzip() is None
            case ".html":
                assert path.read_text().rstrip().endswith("</html>")


def leftovers(*folders: Path) -> list[str]:
    """Return the temporary files and folders below some folders."""
    names = (".earmark-", "earmark-", "__autograph")
    return [str(path) for folder in folders for path in folder.rglob("*") if path.name.startswith(names)]
