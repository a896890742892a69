"""Fine-tuning: a run begins with the weights of another run's model, as far as the layers fit.

The other model is copied into the run when it begins, so that every worker, and a run that is killed before its
first checkpoint, reads the same weights.
"""

import dataclasses
import hashlib
import logging

import keras

from featurize.display import one_line
from featurize.storage import describe
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.inference import load_keras
from train.model.normalization import has_input_normalization
from train.records import InitialWeights
from train.run import Run

FILE = "initial.keras"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """The model that a run takes its first weights from.

    Attributes:
        info: What run.json records.
        content: The file `model.keras`; None if the run has its copy already.
    """

    info: InitialWeights
    content: bytes | None = None


def settle_initial(run: Run, other: Run | None, config: TrainConfig) -> InitialModel | None:
    """Return the model that a run takes its first weights from; it is read only if the run has not begun.

    Args:
        run: Output folder.
        other: Run given with --from; None without it.
        config: Settings.

    Raises:
        TrainError: The other run has no model, the run has begun without it, or layers are frozen without it.
    """
    info = run.info()
    recorded = info.initial if info else None
    begun = bool(run.latest_step() or run.model.is_file())
    if begun or (recorded and not other):
        if other and not recorded:
            raise TrainError(
                f"{run.folder} was begun without --from, which is only read at the beginning. Give another --out, "
                "or leave out --from to continue this run."
            )
        if other and recorded and _changed(other, recorded):
            _log.warning(
                f"{other.folder} is not read: this run began with other weights, from {one_line(recorded.run)}. "
                "To use those of --from, give another --out."
            )
        return InitialModel(recorded) if recorded else None
    if not other:
        if config.freeze:
            raise TrainError(
                f"train.freeze = {', '.join(map(one_line, config.freeze))}: frozen layers keep the weights of "
                "another run. Add --from RUN, or remove the setting."
            )
        return None
    if (trained := other.trained()).members:
        raise TrainError(
            f"{other.folder} holds an ensemble of {trained.members} models. Begin with the weights of one: "
            f"--from {other.member(0).folder.quoted}"
        )
    classes = trained.classes
    content = other.model.read()
    digest = hashlib.sha256(content).hexdigest()
    return InitialModel(InitialWeights(run=other.folder.stored, sha256=digest, classes=classes), content)


def _changed(other: Run, recorded: InitialWeights) -> bool:
    try:
        return hashlib.sha256(other.model.read()).hexdigest() != recorded.sha256
    except OSError:
        return False  # removed, which does not matter any more


def store_initial(run: Run, initial: InitialModel) -> None:
    """Copy the model into the run; `run.json`, which has its digest, is written first."""
    if initial.content is not None:
        (run.folder / FILE).write(initial.content)


def freeze(model: keras.Model, names: list[str]) -> None:
    """Make layers keep their weights; batch normalization is then in inference mode.

    Raises:
        TrainError: The model has no layer of a name, or nothing to train without these layers.
    """
    layers = {layer.name: layer for layer in model.layers}
    if unknown := [one_line(name) for name in names if name not in layers]:
        raise TrainError(
            f"train.freeze = {', '.join(unknown)}: the model has no such layer. It has {', '.join(layers)}."
        )
    for name in names:
        layers[name].trainable = False
    if not model.trainable_variables:
        raise TrainError("train.freeze names all layers that have weights, so nothing is left to train.")


def take_weights(run: Run, model: keras.Model, classes: list[str], frozen: list[str]) -> InitialWeights:
    """Give a model the weights of all layers that fit by name and shape; the last layer also by the classes.

    Args:
        run: Run whose `initial.keras` has the weights.
        model: New model.
        classes: Its classes.
        frozen: Names of frozen layers, which must get weights.

    Returns:
        What was taken, for run.json.

    Raises:
        TrainError: The copy is missing or changed, no layer fits, or a frozen layer gets no weights.
    """
    info = run.info()
    assert info
    assert info.initial
    other = _read(run, info.initial)
    source = {layer.name: layer.get_weights() for layer in other.layers}
    with_weights = [layer for layer in model.layers if layer.weights]
    head = with_weights[-1].name
    taken: list[str] = []
    not_taken: dict[str, str] = {}
    for layer in with_weights:
        here = [tuple(weight.shape) for weight in layer.weights]
        there = [weight.shape for weight in source.get(layer.name, [])]
        if layer.name not in source:
            not_taken[layer.name] = "the other model has no layer of this name"
        elif here != there:
            not_taken[layer.name] = f"shapes {_shapes(there)} there, {_shapes(here)} here"
        elif layer.name == head and classes != info.initial.classes:
            not_taken[layer.name] = "its classes are other ones"
        else:
            layer.set_weights(source[layer.name])
            taken.append(layer.name)
    result = info.initial.model_copy(update={"taken": taken, "not_taken": not_taken})
    if not taken:
        raise TrainError(
            f"no layer of the model fits the model of {one_line(info.initial.run)}: {_listed(not_taken)}. Set "
            "train.model to that model, or train without --from."
        )
    if without := {name: not_taken[name] for name in frozen if name in not_taken}:
        raise TrainError(f"frozen layers would keep random weights: {_listed(without)}. Change train.freeze.")
    if (normalized := has_input_normalization(other)) != has_input_normalization(model):
        _log.warning(
            f"The model of {one_line(info.initial.run)} was trained on other values: it has "
            f"{'a' if normalized else 'no'} first layer that normalizes the input. Its weights fit better with "
            f"train.normalize={str(normalized).lower()} and another --out."
        )
    return result


def describe_taken(info: InitialWeights) -> str:
    """Return what was taken in one line."""
    rest = f" New: {_listed(info.not_taken)}." if info.not_taken else ""
    return f"Weights from {one_line(info.run)}: {', '.join(info.taken)}.{rest}"


def _read(run: Run, info: InitialWeights) -> keras.Model:
    path = run.folder / FILE
    try:
        content = path.read()
    except OSError as error:
        raise TrainError(
            f"cannot read {path}, the model that this run begins with: {describe(error)}. Train into another "
            "folder."
        ) from error
    if hashlib.sha256(content).hexdigest() != info.sha256:
        raise TrainError(f"{path} is not the model that run.json records. Train into another folder.")
    return load_keras(
        path,
        "If it has custom layers, train with the code that defines them: --set train.model=FILE.py:FUNCTION",
    )


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) or "1" for shape in shapes) or "none"


def _listed(reasons: dict[str, str]) -> str:
    return "; ".join(f"{one_line(name)} ({reason})" for name, reason in reasons.items())
