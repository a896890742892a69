"""Nine classes of very different sizes: the small ones must not be forgotten, and a reader must be told."""

import numpy as np
import pytest
from support.audio import encode

from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, Style, compose

COUNTS = (8, 11, 16, 22, 31, 43, 60, 85, 120)
ARTISTS = 4
JUDGED = 10


@pytest.fixture(scope="module")
def nine_classes(ray_here, tmp_path_factory):
    """Each way of sounding in each of the three rhythms: skewed where it is learned, even in the fold to judge.

    With two tracks of the smallest class in the test fold, chance would decide.
    """
    from featurize.config import FeaturizeConfig
    from featurize.dataset_build.driver import featurize

    music, folder = tmp_path_factory.mktemp("nine"), tmp_path_factory.mktemp("nine-features")
    pairs = [(sound, rhythm) for sound in STYLES for rhythm in STYLES]
    rows = ["path,label,group,fold"]
    for c, ((sound, rhythm), count) in enumerate(zip(pairs, COUNTS, strict=True)):
        style = Style(STYLES[sound].note, STYLES[rhythm].onsets, STYLES[rhythm].beats)
        for n in range(count + JUDGED):
            # The tracks to judge are by other artists.
            artist = n % ARTISTS + (ARTISTS if n >= count else 0)
            habits = Habits.draw(np.random.default_rng([9, c, artist]))
            samples = compose(style, habits, 5.1, np.random.default_rng([9, c, n]))
            name = f"{c}-{n}.flac"
            (music / name).write_bytes(encode(samples, SAMPLE_RATE, ".flac"))
            rows.append(f"{name},{sound} in the rhythm of {rhythm},{c}-{artist},{0 if n >= count else artist + 1}")
    (music / "tracks.csv").write_text("\n".join(rows) + "\n")
    featurize(str(music / "tracks.csv"), folder, FeaturizeConfig(segments_per_track=1))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("logical_cpus")
def test_balanced_beats_none_on_macro_f1_over_seeds(nine_classes, tmp_path):
    from support.training import trained

    from featurize.dataset.dataset import open_dataset
    from train.evaluation.evaluate import evaluate_run
    from train.run import Run

    dataset = open_dataset(nine_classes)
    macro_f1 = {}
    for name, settings in {
        "none": {},
        "class_weights": {"class_weights": "balanced"},
        "sampling": {"sampling": "balanced"},
    }.items():
        for seed in range(3):
            # As many steps for each of them: balanced sampling has longer epochs.
            epochs = 3 if name == "sampling" else 8
            run = tmp_path / f"{name}-{seed}"
            said, _ = trained(
                nine_classes,
                run,
                seed=seed,
                epochs=epochs,
                model="modulation",
                normalise=True,
                learning_rate=1e-3,
                batch_size=32,
                validation_fold="none",
                shuffle_window=4096,
                **settings,
            )
            metrics = evaluate_run(Run(run), dataset)
            macro_f1.setdefault(name, []).append(metrics.tracks.macro_f1)
            assert any("bells in the rhythm of bells (18)" in sentence for sentence in said)
            told = any("times the segments of the smallest" in sentence for sentence in said)
            assert told == (name == "none")
    print({name: np.round(values, 3).tolist() for name, values in macro_f1.items()})
    for name in ("class_weights", "sampling"):
        assert np.mean(macro_f1[name]) > np.mean(macro_f1["none"])
    page = (tmp_path / "none-0" / "report.html").read_text()
    assert "Fewer than 20 tracks" in page
