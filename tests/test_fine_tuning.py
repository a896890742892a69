"""Fine-tuning: weights of another run are taken as far as they fit, recorded, and never read again."""

import shutil

import numpy as np
import pytest
from support.training import figures, final_state, stop_when, trained

from train.errors import Stopped, TrainError
from train.run import Run

SETTINGS = {"model": "modulation", "epochs": 1}


@pytest.fixture(scope="module")
def other(features, logical_cpus, tmp_path_factory):
    """A finished run, to begin with."""
    folder = tmp_path_factory.mktemp("other")
    trained(features, folder, **SETTINGS)
    return folder


def weights(folder):
    import keras

    model = keras.models.load_model(folder / "model.keras", compile=False)
    return {layer.name: layer.get_weights() for layer in model.layers}


def test_frozen_layers_keep_their_weights_and_a_stopped_run_resumes_to_the_bit(other, features, tmp_path):
    copy, frozen = tmp_path / "copy", {"freeze": ["filters", "norm"], **SETTINGS}
    shutil.copytree(other, copy)
    messages, _ = trained(features, tmp_path / "whole", start=copy, **frozen)
    before, after = weights(other), weights(tmp_path / "whole")
    for name in ("filters", "norm"):  # of batch normalization also the mean and variance
        assert len(before[name]) == {"filters": 1, "norm": 4}[name]
        for one, two in zip(before[name], after[name], strict=True):
            np.testing.assert_array_equal(one, two)
    assert not np.array_equal(before["dense"][0], after["dense"][0])
    assert f"Weights from {copy}: filters, norm, dense, logits." in messages
    initial = Run(tmp_path / "whole").info().initial
    assert (initial.taken, initial.not_taken) == (["filters", "norm", "dense", "logits"], {})

    with pytest.raises(Stopped):
        trained(features, tmp_path / "stopped", stop_when(2), start=copy, **frozen)
    shutil.rmtree(copy)  # read at the beginning only
    trained(features, tmp_path / "stopped", start=copy, **frozen)
    assert final_state(tmp_path / "stopped") == final_state(tmp_path / "whole")
    assert figures(tmp_path / "stopped") == figures(tmp_path / "whole")
    assert Run(tmp_path / "stopped").info().initial == initial


def test_what_fits_is_taken_and_the_rest_is_named(other, features, tmp_path, monkeypatch):
    import keras

    from train.config import TrainConfig
    from train.fit.initial_weights import describe_taken, freeze, settle_initial, store_initial, take_weights

    def model(classes=3, units=256):
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((40, 217)),
                layers.Permute((2, 1)),
                layers.DepthwiseConv1D(25, depth_multiplier=4, use_bias=False, name="filters"),
                layers.GlobalAveragePooling1D(),
                layers.Dense(units, name="dense"),
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
    taken = take_weights(begun, model(4), ["a", "b", "c", "d"], [])
    assert taken.taken == ["filters"]
    assert taken.not_taken == {
        "dense": "shapes 320x256, 256 there, 160x256, 256 here",
        "new": "the other model has no layer of this name",
        "logits": "shapes 256x3, 3 there, 7x4, 4 here",
    }
    assert describe_taken(taken).startswith(f"Weights from {other}: filters. New: dense (shapes")
    with pytest.raises(TrainError, match=r"frozen layers would keep random weights: new \(the other model has no"):
        take_weights(begun, model(), classes, ["new"])
    same = keras.models.load_model(other / "model.keras", compile=False)
    assert take_weights(begun, same, classes, []).not_taken == {}
    assert take_weights(begun, same, classes[::-1], []).not_taken == {"logits": "its classes are other ones"}
    with pytest.raises(TrainError, match="no layer of the model fits"):
        take_weights(begun, keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="x")]), classes, [])
    with pytest.raises(TrainError, match=r"train\.freeze = conv9: .* It has .*filters, .*logits"):
        freeze(model(), ["filters", "conv9"])
    with pytest.raises(TrainError, match="nothing is left to train"):
        freeze(model(), ["filters", "dense", "new", "logits"])
    (tmp_path / "run" / "initial.keras").write_bytes(b"other")
    with pytest.raises(TrainError, match=r"is not the model that run\.json records"):
        take_weights(begun, model(), classes, [])


def test_wrong_uses_are_refused_before_anything_is_written(other, features, tmp_path):
    with pytest.raises(TrainError, match="Add --from RUN, or remove the setting"):
        trained(features, tmp_path / "new", freeze=["dense"], **SETTINGS)
    with pytest.raises(TrainError, match="holds no run"):
        trained(features, tmp_path / "new", start=tmp_path / "none", **SETTINGS)
    assert not (tmp_path / "new").exists()
    with pytest.raises(TrainError, match="was begun without --from"):
        trained(features, other, start=other, **SETTINGS)


@pytest.mark.slow
def test_two_replicas_begin_with_the_same_weights(other, features, tmp_path):
    for replicas in (1, 2):
        trained(features, tmp_path / str(replicas), start=other, replicas=replicas, freeze=["filters"], **SETTINGS)
    one, two = figures(tmp_path / "1"), figures(tmp_path / "2")
    assert one[0]["train"]["loss"] == pytest.approx(two[0]["train"]["loss"], rel=1e-3)
