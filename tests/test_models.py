"""Models: the table agrees with the layers, and layers that would break the replicas' independence are refused."""

import pytest
from pydantic import ValidationError

from train.config import TrainConfig
from train.model_names import MODELS, describe_models

pytestmark = pytest.mark.usefixtures("logical_cpus")


def test_the_table_and_the_layers_agree():
    import keras

    from train.model.architectures import LAYERS, build_model

    assert list(LAYERS) == list(MODELS)
    for name, spec in MODELS.items():
        layers = build_model(name, 3, 0.4).layers
        assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers) == spec.batch_norm


def test_the_setting_offers_what_the_table_has():
    assert all(TrainConfig(model=name).model == name for name in MODELS)
    with pytest.raises(ValidationError, match="'conv2', 'conv3', 'conv3-norm' or 'modulation'"):
        TrainConfig(model="conv4")
    assert describe_models() in TrainConfig.model_fields["model"].description
