"""`earmark embed`: the values of a hidden layer, a row for each track or segment."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.command_line import earmark

from featurize.dataset_build.inference_features import Featurized
from featurize.storage import StoragePath
from jobs.inference.embed import _TrackOrder, embed
from jobs.terminal.console import ConsoleReporter
from train.errors import TrainError
from train.run import Run


def embedded(run, targets, out, **options):
    """Call `embed` and return the table."""
    settings = {"layer": None, "by_segment": False, "workers": 2, "limits": {}, **options}
    paths = [str(target) for target in targets]
    embed(StoragePath.of(run), paths, StoragePath.of(out), reporter=ConsoleReporter(), **settings)
    return pq.read_table(out)


def test_tracks_are_released_in_the_order_of_the_files():
    order = _TrackOrder(["a", "b", "c", "d"])

    def add(names, rejects=()):
        count = len(names)
        rejected = [(name, "decode", "x", "y") for name in rejects]
        result = Featurized(names, np.empty(0), np.zeros((count, 1)), rejected, [])
        return [name for name, *_ in order.add(result, np.zeros((count, 1, 2), np.float32))]

    assert add(["c"]) == []
    assert add(["a"]) == ["a"]
    assert add([], ["b"]) == ["c"]
    assert add(["d"]) == ["d"]


def test_embeddings_are_the_values_before_the_logits(conv3_run, music, tmp_path):
    import keras

    from train.evaluation.inference import TrainedClassifier

    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    targets = [music / "bells", broken, music / "reeds" / "0-0.mp3"]
    by_segment = embedded(conv3_run, targets, tmp_path / "s.parquet", by_segment=True)
    by_track = embedded(conv3_run, targets[1:], tmp_path / "t.parquet")
    assert by_segment.column_names == ["track", "segment", "start", "embedding"]
    assert by_track.column_names == ["track", "embedding"]
    assert str(by_track.schema.field("embedding").type) == "fixed_size_list<element: float>[100]"
    tracks = by_segment["track"].to_pylist()[::4]
    assert tracks == [*sorted(str(p) for p in (music / "bells").rglob("*.*")), str(targets[2])]
    assert by_track["track"].to_pylist() == tracks[-1:]
    values = np.array(by_segment["embedding"].to_pylist(), np.float32).reshape(len(tracks), 4, 100)
    assert by_segment["segment"].to_pylist() == [0, 1, 2, 3] * len(tracks)
    assert by_segment["start"].to_pylist()[:2] == sorted(by_segment["start"].to_pylist()[:2])
    np.testing.assert_allclose(
        by_track["embedding"].to_pylist(), values[-1:].mean(axis=1, dtype=np.float64), rtol=1e-6
    )
    # The last layer, applied to an embedding, gives the probabilities of the prediction.
    head = keras.models.load_model(conv3_run / "model.keras", compile=False).layers[-1]
    from featurize.dataset_build.inference_features import _plans, featurize_files, list_files, supported_settings

    (plan,) = _plans(list_files([tracks[0]]), supported_settings(Run(conv3_run).trained().features), 1)
    expected = TrainedClassifier(Run(conv3_run)).probabilities(featurize_files(plan, None, 60, {}).mfcc)[0]
    np.testing.assert_allclose(keras.ops.softmax(head(values[0])), expected, atol=1e-5)
    about = json.loads(pq.read_schema(tmp_path / "s.parquet").metadata[b"earmark"])
    assert about == {"layer": "input of logits", "model_sha256": about["model_sha256"]}


def test_a_layer_is_chosen_by_its_name(conv3_run):
    from train.evaluation.embedder import Embedder

    run, segments = Run(conv3_run), np.zeros((2, 3, 40, 217), np.float32)
    assert Embedder(run, "dense1").embed(segments).shape == (2, 3, 500)
    assert Embedder(run).embed(segments[:0]).shape == (0, 3, 100)
    with pytest.raises(
        TrainError, match=r"no such layer\. It has input_normalization, image, conv1, .*, dropout, logits"
    ):
        Embedder(run, "dense9")
    with pytest.raises(TrainError, match=r"conv1 has [\d,]+ values for each segment, expected at most 65,536"):
        Embedder(run, "conv1")


@pytest.mark.slow
def test_the_command_on_many_files_and_on_none(conv3_run, music, tmp_path):
    out = tmp_path / "many.parquet"
    folder = tmp_path / "many"
    for copy in range(3):  # more than 64 files, on Ray workers
        (folder / str(copy)).mkdir(parents=True)
        for path in music.rglob("*.*"):
            (folder / str(copy) / f"{path.parent.name}-{path.parent.parent.name}-{path.name}").symlink_to(path)
    done = earmark("embed", conv3_run, folder, "--out", out, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert f"embedded  90 tracks, 100 values, input of logits\nfile      {out}" in done.stdout
    table = pq.read_table(out)
    assert table["track"].to_pylist() == sorted(table["track"].to_pylist())
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    done = earmark("embed", conv3_run, tmp_path / "broken.wav", "--out", tmp_path / "none.parquet")
    assert done.returncode == 1
    assert "none of the 1 files could be read" in done.stderr
    assert not (tmp_path / "none.parquet").exists()
