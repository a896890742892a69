"""Write the trained model of a run, and what is needed to use it on audio."""

import os
import tempfile
from pathlib import Path

import keras

from featurize.dataset.dataset import Dataset
from featurize.io_errors import naming
from train.config import TrainConfig
from train.fit.early_stopping import best_epoch
from train.records import ModelInfo
from train.run import Run


def save_model(
    run: Run,
    model: keras.Model,
    dataset: Dataset,
    config: TrainConfig,
    temperature: float | None,
    epoch: int | None = None,
) -> None:
    """Write model.keras, and model.json with everything needed to use it on audio.

    Args:
        run: Output folder, with the history of its training.
        model: Trained model.
        dataset: Dataset that it was trained on.
        config: Settings that it was trained with.
        temperature: Temperature that it was calibrated with; None if it was not.
        epoch: Epoch after which it was saved; None for the best one of the history.
    """
    with tempfile.TemporaryDirectory() as folder, naming(folder):
        path = os.path.join(folder, "model.keras")
        model.save(path)
        content = Path(path).read_bytes()
    history, settings = run.history(), dataset.info.settings
    info = ModelInfo(
        classes=dataset.classes,
        features=settings.model_dump(),
        input=f"float32 [batch, {settings.features}, {settings.frames}], {settings.describe()}, as the settings "
        "under features make them",
        output="float32 [batch, classes], logits: softmax gives the probabilities",
        parameters=model.count_params(),
        epoch=epoch or best_epoch(history, config),
        epochs=len(history),
        dataset=dataset.id,
    )
    if temperature is not None:
        info = info.model_copy(update={"temperature": temperature})
    if config.ensemble > 1:
        info = info.model_copy(update={"members": config.ensemble})
    # In this order: until model.json has the new epochs, the same command writes both again.
    run.model.write(content)
    run.write("model.json", info.to_json())
