"""The whole config: YAML in, `--set section.key=value` on top, and every mistake in one message."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from featurize.config import FeaturizeConfig
from featurize.storage import StoragePath, describe
from jobs.errors import ConfigError
from train.config import TrainConfig


class JobConfig(BaseModel):
    """All settings, one section for each package."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    featurize: FeaturizeConfig = FeaturizeConfig()
    train: TrainConfig = TrainConfig()


def load_config(file: Path | StoragePath | None, overrides: Sequence[str]) -> JobConfig:
    """Read a YAML file, lay the overrides over it and validate the whole.

    Args:
        file: a YAML file with the sections of `JobConfig`, or None for the defaults.
        overrides: `section.key=value`, values as YAML writes them; later ones win.

    Raises:
        ConfigError: the file cannot be read, or at least one setting is unknown or out of range.
    """
    settings = _read_yaml(file) if file else {}
    problems: list[str] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        section, dot, key = path.strip().partition(".")
        if not (equals and dot and section and key):
            problems.append(f"--set {override}: expected section.key=value, as in train.epochs=10")
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            problems.append(f"--set {override}: {text!r} is not a YAML value")
            continue
        values = settings.setdefault(section, {})
        if isinstance(values, dict):
            values[key] = value
    return _validate(settings, problems)


def featurized_with(file: Path | StoragePath) -> FeaturizeConfig:
    """Return the settings that a dataset was made with; its config may have other sections of another version.

    Raises:
        ConfigError: they cannot be used.
    """
    return _validate({"featurize": _read_yaml(file).get("featurize", {})}, []).featurize


def to_yaml(config: JobConfig) -> str:
    """Write a config as YAML with a comment on each setting; `load_config` reads it back the same."""
    lines = []
    for section in JobConfig.model_fields:
        values: BaseModel = getattr(config, section)
        lines.append(f"{section}:")
        for key, field in type(values).model_fields.items():
            value = yaml.safe_dump(getattr(values, key), default_flow_style=True, width=1000)
            lines += [f"  # {field.description}", f"  {key}: {value.splitlines()[0]}"]
    return "\n".join(lines) + "\n"


def _validate(settings: dict[str, Any], problems: list[str]) -> JobConfig:
    """Return the config that some settings come to; raise ConfigError if they, or what was read, have problems."""
    try:
        config = JobConfig.model_validate(settings)
    except ValidationError as error:
        problems += [_explain(problem) for problem in error.errors()]
    if problems:
        raise ConfigError("the settings cannot be used:\n" + "\n".join(f"  - {line}" for line in problems))
    return config


def _read_yaml(file: Path | StoragePath) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(StoragePath.of(file).read().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {file}: {describe(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config {file} is not YAML: {error}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(
            f"the config {file} must hold sections ({', '.join(JobConfig.model_fields)}), each "
            f"with its settings; found {type(settings).__name__}"
        )
    # A section that is named and left empty has no settings of its own.
    return {str(section): {} if values is None else values for section, values in settings.items()}


def _explain(problem: Any) -> str:
    """Say in one line what is wrong with one setting, and which known one an unknown one resembles."""
    place = ".".join(str(part) for part in problem["loc"][:2])
    if problem["type"] == "extra_forbidden":
        nearest = _nearest(place)
        return f"{place}: unknown setting" + (f"; did you mean {nearest}?" if nearest else "")
    if problem["type"] in ("model_type", "model_attributes_type"):
        return f"{place}: expected settings (key: value), found {problem['input']!r}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if len(problem["loc"]) < 2:
        return f"{place}: {message}"
    return f"{place}: {message[0].lower()}{message[1:]}, found {problem['input']!r}"


def _nearest(place: str) -> str | None:
    """Return the known setting or section that a mistyped one most resembles, wherever it stands."""
    sections = list(JobConfig.model_fields)
    settings = [
        f"{name}.{key}" for name, field in JobConfig.model_fields.items() for key in _fields(field.annotation)
    ]
    if "." not in place:
        return _closest(place, sections)
    section, key = place.split(".", 1)
    elsewhere = [setting for setting in settings if setting.split(".")[1] == key]
    return elsewhere[0] if elsewhere else _closest(place, [s for s in settings if s.startswith(section + ".")])


def _fields(section: Any) -> Iterable[str]:
    model: type[BaseModel] = section
    return model.model_fields


def _closest(word: str, known: Sequence[str]) -> str | None:
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None
