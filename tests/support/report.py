"""A dataset with names that break a page, and a run on it."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from featurize.dataset.dataset import Dataset, open_dataset
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose
from support.audio import encode
from train.run import Run

JAZZ, DOLLARS = '<b>Jazz & "Blues"</b>', "$x$ {{ 7*7 }}"
SCRIPT = "<script>alert(1)</script>.wav"
QUOTES = "it's $x$ {{ 7*7 }}.wav"
PERCENT = "100%20 #?&a=b.wav"
NO_BROWSER_PLAYS = "deeper/ü.aiff"
COPIED = "copied.wav"
REJECT = "<img src=x onerror=alert(2)>.wav"
# Path, class, fold, and number of the piece. The twins are one piece in two classes: one of them is misclassified.
TRACKS = [
    (SCRIPT, JAZZ, 0, 0),
    (QUOTES, DOLLARS, 0, 1),
    (PERCENT, JAZZ, 0, 2),
    (NO_BROWSER_PLAYS, DOLLARS, 0, 3),
    ("twin 2.wav", JAZZ, 0, 4),
    ("twin 10.wav", DOLLARS, 0, 4),
    (COPIED, JAZZ, 0, 6),
    *((f"learned/{n}.wav", (JAZZ, DOLLARS)[n % 2], 1, n) for n in range(6, 10)),
]
EVALUATED = {path: label for path, label, fold, _ in TRACKS if fold == 0 and path != COPIED}
SEGMENTS = 4


def compose_dataset(root: Path) -> Dataset:
    """Featurize a collection with names that break a page, a copy across the split, and a broken file."""
    from featurize.config import FeaturizeConfig
    from featurize.dataset_build.driver import featurize

    styles = list(STYLES.values())
    for path, _, _, piece in TRACKS:
        habits = Habits.draw(np.random.default_rng([5, piece]))
        samples = compose(styles[piece % 2], habits, 5.5, np.random.default_rng([5, piece, 1]))
        file = root / "music" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(samples, SAMPLE_RATE, file.suffix))
    (root / "music" / REJECT).write_bytes(b"no music")
    rows = [*TRACKS, (REJECT, JAZZ, 1, None)]
    table = root / "music" / "tracks.jsonl"
    table.write_text("\n".join(json.dumps({"path": p, "label": c, "fold": f, "group": p}) for p, c, f, _ in rows))
    featurize(str(table), root / "features", FeaturizeConfig(segments_per_track=SEGMENTS, tracks_per_shard=4))
    return open_dataset(root / "features")


def train_run(dataset: Dataset) -> Path:
    """Train on the dataset, evaluate and write the report; return the run's folder."""
    from support.training import trained
    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page

    folder = dataset.folder.local.parent / "runs" / "one"
    trained(dataset.folder, folder, validation_fold="none", epochs=2, model="modulation", batch_size=8)
    evaluate_run(Run(folder), dataset)
    assert not Run(folder).report.is_file()
    write_run_page(Run(folder), dataset)
    return folder


def expected_order(run):
    """Return track, actual class, predicted class and confidence of each track, in the order of the report."""
    table = pq.read_table(run / "predictions.parquet")
    classes = json.loads(table.schema.field("probabilities").metadata[b"classes"])
    rows = np.array(table["probabilities"].to_pylist()).reshape(-1, SEGMENTS, len(classes)).mean(axis=1)
    tracks, labels = (table[name].to_pylist()[::SEGMENTS] for name in ("track", "label"))
    described = [(t, c, classes[p.argmax()], p.max()) for t, c, p in zip(tracks, labels, rows, strict=True)]
    errors = sorted((row for row in described if row[1] != row[2]), key=lambda row: -row[3])
    return errors + sorted((row for row in described if row[1] == row[2]), key=lambda row: row[3])
