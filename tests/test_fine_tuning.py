"""Fine-tuning: weights of another run are taken as far as they fit, recorded, and never read again."""

import shutil

import numpy as np
import pytest
from support.logs import logged
from support.training import figures, final_state, stop_when, trained

from train.config import TrainConfig
from train.errors import Stopped, TrainError
from train.run import Run

SETTINGS = {"model": "conv3-norm", "epochs": 1}


@pytest.fixture
def other(conv3_run):
    """A finished run, to begin with."""
    return conv3_run


def weights(folder):
    import keras

    model = keras.models.load_model(folder / "model.keras", compile=False)
    return {layer.name: layer.get_weights() for layer in model.layers}


@pytest.mark.slow
def test_frozen_layers_keep_their_weights_and_a_stopped_run_resumes_to_the_bit(other, features, tmp_path):
    copy, frozen = tmp_path / "copy", {"freeze": ["conv1", "norm"], **SETTINGS}
    shutil.copytree(other, copy)
    messages, _ = trained(features, tmp_path / "whole", start=copy, **frozen)
    before, after = weights(other), weights(tmp_path / "whole")
    for name in ("conv1", "norm"):  # of batch normalization also the mean and variance
        assert len(before[name]) == {"conv1": 2, "norm": 4}[name]
        for one, two in zip(before[name], after[name], strict=True):
            np.testing.assert_array_equal(one, two)
    assert not np.array_equal(before["dense1"][0], after["dense1"][0])
    all_layers = ["conv1", "conv2", "conv3", "norm", "dense1", "dense2", "logits"]
    assert f"Weights from {copy}: {', '.join(all_layers)}." in messages
    initial = Run(tmp_path / "whole").info().initial
    assert (initial.taken, initial.not_taken) == (all_layers, {})

    with pytest.raises(Stopped):
        trained(features, tmp_path / "stopped", stop_when(2), start=copy, **frozen)
    shutil.rmtree(copy)  # read at the beginning only
    trained(features, tmp_path / "stopped", start=copy, **frozen)
    assert final_state(tmp_path / "stopped") == final_state(tmp_path / "whole")
    assert figures(tmp_path / "stopped") == figures(tmp_path / "whole")
    assert Run(tmp_path / "stopped").info().initial == initial


def test_what_fits_is_taken_and_the_rest_is_named(other, features, tmp_path, monkeypatch):
    import keras

    from train.fit.initial_weights import describe_taken, freeze, settle_initial, store_initial, take_weights

    def model(classes=3):
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((40, 217)),
                layers.Reshape((40, 217, 1)),
                layers.Conv2D(12, 5, name="conv1"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(500, name="dense1"),
                layers.Dense(7, name="new"),
                layers.Dense(classes, name="logits"),
            ]
        )

    classes = Run(other).trained().classes
    begun = Run(tmp_path / "run")
    initial = settle_initial(begun, Run(other), TrainConfig())
    info = Run(other).info()
    begun.write("run.json", info.model_copy(update={"initial": initial.info}).to_json())
    store_initial(begun, initial)
    with logged("train") as messages:
        taken = take_weights(begun, model(4), ["a", "b", "c", "d"], [])
    assert [text for text in messages if "fit better with train.normalize=true" in text]
    assert taken.taken == ["conv1"]
    assert taken.not_taken == {
        "dense1": "shapes 1104x500, 500 there, 12x500, 500 here",
        "new": "the other model has no layer of this name",
        "logits": "shapes 100x3, 3 there, 7x4, 4 here",
    }
    assert describe_taken(taken).startswith(f"Weights from {other}: conv1. New: dense1 (shapes")
    with pytest.raises(TrainError, match=r"frozen layers would keep random weights: new \(the other model has no"):
        take_weights(begun, model(), classes, ["new"])
    same = keras.models.load_model(other / "model.keras", compile=False)
    assert take_weights(begun, same, classes, []).not_taken == {}
    assert take_weights(begun, same, classes[::-1], []).not_taken == {"logits": "its classes are other ones"}
    with pytest.raises(TrainError, match="no layer of the model fits"):
        take_weights(begun, keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="x")]), classes, [])
    with pytest.raises(TrainError, match=r"train\.freeze = conv9: .* It has .*conv1, .*logits"):
        freeze(model(), ["conv1", "conv9"])
    with pytest.raises(TrainError, match="nothing is left to train"):
        freeze(model(), ["conv1", "dense1", "new", "logits"])
    (tmp_path / "run" / "initial.keras").write_bytes(b"other")
    with pytest.raises(TrainError, match=r"is not the model that run\.json records"):
        take_weights(begun, model(), classes, [])


def test_wrong_uses_are_refused_before_anything_is_written(other, features, tmp_path):
    from train.fit.initial_weights import settle_initial

    with pytest.raises(TrainError, match="Add --from RUN, or remove the setting"):
        trained(features, tmp_path / "new", freeze=["dense1"], **SETTINGS)
    with pytest.raises(TrainError, match="holds no run"):
        trained(features, tmp_path / "new", start=tmp_path / "none", **SETTINGS)
    assert not (tmp_path / "new").exists()
    weights_of_other = settle_initial(Run(tmp_path / "new"), Run(other), TrainConfig())
    info = Run(other).info().model_copy(update={"initial": weights_of_other.info})
    Run(tmp_path / "new").write("run.json", info.to_json())
    # Killed before its first checkpoint: the copy in the run is enough.
    assert (
        settle_initial(Run(tmp_path / "new"), None, TrainConfig(freeze=["dense1"])).info == weights_of_other.info
    )
    with pytest.raises(TrainError, match="was begun without --from"):
        settle_initial(Run(other), Run(other), TrainConfig())


@pytest.mark.slow
def test_two_replicas_begin_with_the_same_weights(other, features, tmp_path):
    for replicas in (1, 2):
        trained(features, tmp_path / str(replicas), start=other, replicas=replicas, freeze=["conv1"], **SETTINGS)
    one, two = figures(tmp_path / "1"), figures(tmp_path / "2")
    assert one[0]["train"]["loss"] == pytest.approx(two[0]["train"]["loss"], rel=1e-3)
