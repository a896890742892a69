"""Models: the table agrees with the layers, and layers that would break the replicas' independence are refused."""

import pytest
from pydantic import ValidationError
from support.default_features import FORMAT

from train.config import TrainConfig
from train.errors import TrainError
from train.model_names import MODELS, describe_models

pytestmark = pytest.mark.usefixtures("logical_cpus")


def test_the_table_and_the_layers_agree():
    import keras

    from train.model.architectures import LAYERS, build_model

    assert list(LAYERS) == list(MODELS)
    for name, spec in MODELS.items():
        layers = build_model(name, FORMAT, 3, 0.4).layers
        assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers) == spec.batch_norm


def test_the_setting_offers_what_the_table_has():
    assert all(TrainConfig(model=name).model == name for name in MODELS)
    with pytest.raises(ValidationError, match="'conv2', 'conv3', 'conv3-norm' or 'modulation'"):
        TrainConfig(model="conv4")
    assert describe_models() in TrainConfig.model_fields["model"].description


def chain(*layers):
    import keras

    return keras.Sequential([keras.Input((40, 217)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])


def test_dropout_in_the_chain_itself_is_accepted():
    import keras

    from train.fit.forward import refuse_random_layers
    from train.model.architectures import build_model

    refuse_random_layers(chain(keras.layers.Dropout(0.5, name="masks")))
    for name in MODELS:
        refuse_random_layers(build_model(name, FORMAT, 3, 0.4))


def test_random_layers_that_training_cannot_replace_are_refused_by_name():
    import keras

    from train.fit.forward import refuse_random_layers

    inner = keras.Sequential([keras.layers.Dropout(0.5, name="hidden")], name="inner")
    attention = keras.Sequential([keras.layers.GRU(2, dropout=0.5, name="gru"), keras.layers.Reshape((2, 1))])
    for layer, path in (
        (inner, "inner/hidden"),
        (keras.Sequential([inner], name="outer"), "outer/inner/hidden"),
        (keras.layers.SpatialDropout1D(0.5, name="spatial"), "spatial"),
        (keras.layers.GaussianNoise(0.5, name="noise"), "noise"),
        (attention, f"{attention.name}/gru"),
    ):
        with pytest.raises(TrainError, match=f"^{path} of the model .* Use keras.layers.Dropout"):
            refuse_random_layers(chain(layer))


def test_training_refuses_such_a_model_before_the_first_step(features, tmp_path, monkeypatch):
    import keras
    from support.training import trained

    from train.model import architectures

    def nested(make):
        return [keras.Sequential([keras.layers.Dropout(0.5, name="hidden")], name="inner"), keras.layers.Flatten()]

    monkeypatch.setitem(architectures.LAYERS, "conv2", nested)
    with pytest.raises(TrainError, match="inner/hidden"):
        trained(features, tmp_path, model="conv2")
    assert not list(tmp_path.glob("checkpoints/*"))
    assert not list(tmp_path.glob("tensorboard/*"))


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ([], "float32"),  # no GPU
        ([(7, 5)], "float32"),
        ([(8, 0), (9, 0)], "mixed_bfloat16"),
        ([(8, 0), (7, 0)], "float32"),  # replicas compute alike
    ],
)
def test_bfloat16_is_used_where_all_gpus_have_it(capabilities, precision):
    from train.model.strategy import precision_for, resolve_precision

    assert precision_for(capabilities) == precision
    assert resolve_precision("mixed_float16") == "mixed_float16"
