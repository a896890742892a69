"""An example of a model of your own: convolutions over time with a shortcut around each."""

import keras


def build(input_shape, classes, config):
    """Return a model from segments of `input_shape` to a logit for each of the classes."""
    width = config.model_settings.get("width", 32)
    inputs = keras.Input(input_shape)
    x = keras.layers.Permute((2, 1))(inputs)  # the frames first
    x = keras.layers.Conv1D(width, 5, strides=4, activation="relu", name="first")(x)
    for i in range(config.model_settings.get("blocks", 2)):
        y = keras.layers.Conv1D(width, 3, padding="same", activation="relu", name=f"conv{i}")(x)
        y = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{i}")(y)
        y = keras.layers.Dropout(config.dropout, name=f"dropout{i}")(y)
        x = keras.layers.Add(name=f"sum{i}")([x, y])
    x = keras.layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32", name="logits")(x))
