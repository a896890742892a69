"""The config: read YAML, apply `--set section.key=value`, and report all mistakes in one message."""

import difflib
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from featurize.config import FeaturizeConfig
from featurize.dataset.yaml_text import LARGEST_YAML, parse_yaml, read_yaml
from featurize.storage import StoragePath, describe
from jobs.errors import ConfigError
from train.config import TrainConfig
from train.setting_rules import with_present_names


class JobConfig(BaseModel):
    """All settings, one section per package."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    featurize: FeaturizeConfig = FeaturizeConfig()
    train: TrainConfig = TrainConfig()


def load_config(file: Path | StoragePath | None, overrides: Sequence[str]) -> JobConfig:
    """Read a YAML file, apply the overrides and validate the result.

    Args:
        file: YAML file with the sections of `JobConfig`; None for the defaults.
        overrides: Settings as `section.key=value` with YAML values; the last one for a key wins.

    Raises:
        ConfigError: The file cannot be read, or at least one setting is unknown or out of range.
    """
    settings = _read_yaml(file) if file else {}
    if isinstance(train := settings.get("train"), dict):
        settings["train"] = with_present_names(train)
    problems: list[str] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        section, dot, key = path.strip().partition(".")
        if not (equals and dot and section and key):
            problems.append(f"--set {override}: expected section.key=value, such as train.epochs=10")
            continue
        try:
            value = parse_yaml(text)
        except ValueError as error:
            problems.append(f"--set {path}: {reprlib.repr(text)} {error}")
            continue
        values = settings.setdefault(section, {})
        if isinstance(values, dict):
            values |= with_present_names({key: value}) if section == "train" else {key: value}
    return _validate(settings, problems, file)


def featurized_with(file: Path | StoragePath) -> FeaturizeConfig:
    """Read the settings that a dataset was made with; other sections may be of another version and are ignored.

    Args:
        file: `config.yaml` of the dataset.

    Raises:
        ConfigError: The file cannot be read, or at least one setting is unknown or out of range.
    """
    return _validate({"featurize": _read_yaml(file).get("featurize", {})}, [], file).featurize


def to_yaml(config: JobConfig) -> str:
    """Return a config as YAML with a comment on each setting; `load_config` reads it back unchanged."""
    lines = []
    for section in JobConfig.model_fields:
        values: BaseModel = getattr(config, section)
        lines.append(f"{section}:")
        for key, field in type(values).model_fields.items():
            value = yaml.safe_dump(getattr(values, key), default_flow_style=True, width=math.inf)
            lines += [f"  # {field.description}", f"  {key}: {value.splitlines()[0]}"]
    return "\n".join(lines) + "\n"


def _validate(settings: dict[str, Any], problems: list[str], file: Path | StoragePath | None) -> JobConfig:
    """Validate settings, some from a file; raise a ConfigError if they are invalid or `problems` is not empty."""
    try:
        config = JobConfig.model_validate(settings)
    except ValidationError as error:
        problems += [_explain(problem) for problem in error.errors()]
    if problems:
        where = f"{file}: " if file else ""
        lines = "\n".join(f"  - {line}" for line in problems)
        raise ConfigError(f"{where}the settings cannot be used:\n{lines}")
    return config


def _read_yaml(file: Path | StoragePath) -> dict[str, Any]:
    try:
        if isinstance(file, StoragePath):
            settings = read_yaml(file)
        else:  # the user's own, which may be a pipe: --config <(...)
            with file.open("rb") as opened:
                settings = parse_yaml(opened.read(LARGEST_YAML + 1))
    except OSError as error:
        raise ConfigError(f"cannot read the config {file}: {describe(error)}") from error
    except ValueError as error:
        raise ConfigError(f"the config {file} {error}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(
            f"the config {file} must have sections ({', '.join(JobConfig.model_fields)}), each "
            f"with settings; found {type(settings).__name__}"
        )
    # YAML reads an empty section as null.
    return {str(section): {} if values is None else values for section, values in settings.items()}


def _explain(problem: Any) -> str:
    """Return one line on an invalid setting; for an unknown one, with the most similar known setting."""
    name = ".".join(str(part) for part in problem["loc"][:2])
    if problem["type"] == "extra_forbidden":
        nearest = nearest_setting(name)
        return f"{name}: unknown setting" + (f"; did you mean {nearest}?" if nearest else "")
    if problem["type"] in ("model_type", "model_attributes_type"):
        return f"{name}: expected settings (key: value), found {reprlib.repr(problem['input'])}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if len(problem["loc"]) < 2:
        return f"{name}: {message}"
    limits = _range(problem["loc"][0], problem["loc"][1])
    return f"{name}: {message[0].lower()}{message[1:]}, found {reprlib.repr(problem['input'])}" + (
        f" ({limits})" if limits else ""
    )


def _range(section: str, key: str) -> str:
    """Return the range of a numeric setting, such as `more than 0, at most 86400`; empty if it has none."""
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    field = _fields(JobConfig.model_fields[section].annotation)[key]
    marks = [*field.metadata, *(mark for part in get_args(field.annotation) for mark in get_args(part)[1:])]
    marks = [inner for mark in marks for inner in getattr(mark, "metadata", [mark])]
    bounds = {word: getattr(mark, name) for mark in marks for name, word in words.items() if hasattr(mark, name)}
    return ", ".join(f"{word} {bounds[word]:,}" for word in words.values() if word in bounds)


def nearest_setting(mistyped: str) -> str | None:
    """Return the known setting or section most similar to a mistyped one; a setting may be in another section."""
    sections = list(JobConfig.model_fields)
    settings = [
        f"{name}.{key}" for name, field in JobConfig.model_fields.items() for key in _fields(field.annotation)
    ]
    if "." not in mistyped:
        return _closest(mistyped, sections)
    section, key = mistyped.split(".", 1)
    elsewhere = [setting for setting in settings if setting.split(".")[1] == key]
    return elsewhere[0] if elsewhere else _closest(mistyped, [s for s in settings if s.startswith(section + ".")])


def _fields(section: Any) -> Mapping[str, FieldInfo]:
    model: type[BaseModel] = section
    return model.model_fields


def _closest(word: str, known: Sequence[str]) -> str | None:
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
