"""Train with quick settings, and read the results that tests compare."""

import signal

import tensorflow as tf

from featurize.dataset.dataset import open_dataset
from support.logs import logged
from train.callbacks import Callbacks
from train.checkpoint_name import complete_checkpoints
from train.config import TrainConfig
from train.fit.trainer import train
from train.run import Run

TIMINGS = {"seconds", "examples_per_second", "wait_fraction"}
QUICK = TrainConfig(
    model="modulation",  # a tenth of the time of the others
    validation_fold="next",
    epochs=2,
    batch_size=16,
    learning_rate=1e-3,
    shuffle_window=40,
    steps_per_call=1,  # `stop_when` counts calls
)
# All settings that use random numbers or depend on the step.
EVERYTHING = {
    "normalize": True,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "sampling": "balanced",
    "segments_per_epoch": 3,
    "mask_frames": 30,
    "mask_coefficients": 6,
    "mixup": 0.3,
    "average_epochs": 0.7,
}


def trained(features, folder, stop=lambda: None, start=None, **settings):
    """Train with QUICK and other settings; return the logged messages and the epochs of this call."""
    epochs = []
    config = TrainConfig.model_validate({**QUICK.model_dump(), **settings})
    callbacks = Callbacks(epoch=lambda record, total: epochs.append(record), stop=stop)
    with logged("train") as messages:
        train(
            open_dataset(features), Run(folder), config, "the: config\n", callbacks, Run(start) if start else None
        )
    return messages, epochs


def stop_when(calls):
    """Return a stop function that requests a stop after `calls` calls, as a signal does."""
    left = iter(range(calls))
    return lambda: None if next(left, None) is not None else int(signal.SIGTERM)


def final_state(folder):
    """Return every tensor of the last checkpoint (weights and optimizer slots) as bytes, by name."""
    checkpoints = Run(folder).checkpoints
    last = complete_checkpoints(checkpoints)[-1]
    with (checkpoints / str(last)).at_hand() as here:
        reader = tf.train.load_checkpoint(str(here / "state"))
        return {
            name: reader.get_tensor(name).tobytes()
            for name in reader.get_variable_to_shape_map()
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
        }


def figures(folder):
    """Return the history without timings."""
    return [{k: v for k, v in e.to_json().items() if k not in TIMINGS} for e in Run(folder).history()]
