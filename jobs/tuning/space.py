"""The space of a search: which settings of training vary, and between which values; read from YAML.

Example:
    train.model: [conv3, modulation]                    # one of these
    train.learning_rate: {loguniform: [1e-4, 1e-2]}     # a number between these, by its logarithm
    train.dropout: {uniform: [0, 0.6]}                  # a number between these
    train.batch_size: {logintegers: [16, 128]}          # a whole number, both ends included, by its logarithm
    train.model_settings.width: {integers: [8, 64]}     # a whole number, both ends included
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from featurize.dataset.yaml_text import LARGEST_YAML, parse_yaml
from featurize.display import one_line
from featurize.storage import describe
from jobs.config import JobConfig, nearest_setting
from jobs.errors import ConfigError
from jobs.tuning.values import MODEL_SETTINGS, Values, parse_values
from train.config import TrainConfig
from train.setting_types import NotCompared

_MOST_SETTINGS = 50
_SHOWN = 100  # characters of a name
_PROBLEMS_SHOWN = 20
# By what trials are compared; another value in each of them would compare different things.
_COMPARED_BY = ("test_fold", "validation_fold", "select_by", "test_segments", "evaluate_every")
_ON_TEST = ("best_epoch_on_test",)
_Space = Mapping[str, Values]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        number: Its number, from 1.
        values: The values of the settings that vary, by their full names.
        config: All settings.
    """

    number: int
    values: dict[str, Any]
    config: JobConfig


def read_space(file: Path) -> dict[str, Values]:
    """Read a space from a YAML file.

    Raises:
        ConfigError: The file cannot be read, or at least one setting or range is not possible; the message lists
            all of them.
    """
    try:
        with file.open("rb") as opened:
            content = parse_yaml(opened.read(LARGEST_YAML + 1))
    except OSError as error:
        raise ConfigError(f"cannot read the space {file}: {describe(error)}") from error
    except ValueError as error:
        raise ConfigError(f"the space {file} {error}") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(
            f"the space {file} must name the settings that vary, such as train.dropout: [0, 0.4]; found "
            f"{'nothing' if not content else type(content).__name__}"
        )
    if len(content) > _MOST_SETTINGS:
        raise ConfigError(f"the space {file} has {len(content)} settings; expected at most {_MOST_SETTINGS}")
    space: dict[str, Values] = {}
    problems: list[str] = []
    for name, value in content.items():
        try:
            setting = _setting(name)
            space[setting] = parse_values(setting, value)
        except ValueError as error:
            problems.append(f"{one_line(name)[:_SHOWN]}: {error}")
    _refuse(problems, f"{file}: the space cannot be used")
    return space


def draw_trials(space: _Space, base: JobConfig, samples: int) -> list[Trial]:
    """Return distinct trials; a larger number of samples only adds further ones.

    A value depends on the seed, on the name of its setting and on the number of the draw only.

    Args:
        space: Space.
        base: Settings that do not vary; `train.seed` is the seed of the draws, too.
        samples: Number of trials; there are fewer if the space has fewer combinations.

    Raises:
        ConfigError: Some of the combinations are not possible; the message names the trials.
    """
    wanted = min(samples, math.prod(values.count for values in space.values()))
    drawn: dict[str, dict[str, Any]] = {}
    for draw in range(100 * samples):  # enough to find all combinations of a small space
        values = {name: space[name].at(_position(base.train.seed, draw, name)) for name in space}
        drawn.setdefault(repr(values), values)
        if len(drawn) == wanted:
            break
    trials, problems = [], []
    for number, values in enumerate(drawn.values(), 1):
        try:
            trials.append(Trial(number, values, _with(base, values)))
        except ValidationError as error:
            message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            problems.append(f"trial {number} ({describe_values(values)}): {message}")
    _refuse(problems, "the space has combinations that cannot be used")
    return trials


def describe_values(values: Mapping[str, Any]) -> str:
    """Return the values of a trial in one line, such as `train.dropout=0.4, train.model=conv3`."""
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _refuse(problems: Sequence[str], title: str) -> None:
    if problems:
        shown = [*problems[:_PROBLEMS_SHOWN]]
        if len(problems) > _PROBLEMS_SHOWN:
            shown.append(f"and {len(problems) - _PROBLEMS_SHOWN} more")
        raise ConfigError(f"{title}:\n" + "\n".join(f"  - {problem}" for problem in shown))


def _position(seed: int, draw: int, name: str) -> float:
    """Return a number in [0, 1) that depends on its arguments only."""
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return float(np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, draw, digest)))).random())


def _with(base: JobConfig, values: Mapping[str, Any]) -> JobConfig:
    settings = base.train.model_dump()
    for name, value in values.items():
        key, _, inner = name.removeprefix("train.").partition(".")
        settings[key] = {**settings[key], inner: value} if inner else value
    return base.model_copy(update={"train": TrainConfig.model_validate(settings)})


def _setting(name: object) -> str:
    """Return the name of a setting that may vary.

    Raises:
        ValueError: There is no such setting, or trials with different values of it cannot be compared.
    """
    section, _, key = str(name).partition(".")
    key, _, inner = key.partition(".")
    if section == "train" and not key:
        raise ValueError("expected settings with their full names, such as train.learning_rate")
    if section == "featurize":
        raise ValueError("the dataset has its features already; only settings of train may vary")
    field = TrainConfig.model_fields.get(key) if section == "train" else None
    if not field or (inner and key != MODEL_SETTINGS):
        nearest = nearest_setting(str(name) if section == "train" and not inner else f"train.{key or section}")
        raise ValueError("unknown setting" + (f"; did you mean {nearest}?" if nearest else ""))
    if key in _ON_TEST:
        raise ValueError("it evaluates the test fold, which a search does not use")
    if key in _COMPARED_BY:
        raise ValueError("trials are compared by it, so it has the same value in all of them; give it with --set")
    if key == "ensemble":
        raise ValueError(
            "trials are compared epoch by epoch, which the members of an ensemble do not share; remove it, and "
            "train the best settings as an ensemble"
        )
    if key == "freeze":
        raise ValueError(
            "frozen layers keep the weights of another run, and a trial begins with random ones; remove it"
        )
    if any(isinstance(mark, NotCompared) for mark in field.metadata):
        raise ValueError("it affects no score; give it with --set")
    return str(name)
