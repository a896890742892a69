"""A command line for a cluster, parsed here first so that mistakes are found before anything is sent."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from featurize.dataset.yaml_text import parse_yaml
from featurize.place_uri import is_uri
from featurize.uri import uri_without_secrets
from jobs.config import JobConfig, load_config, to_yaml
from jobs.errors import ConfigError
from jobs.inference.predict import prediction_limits
from jobs.remote.code_bundle import SETTINGS, SPACE
from jobs.tuning.space import read_space
from jobs.typed_command import command_words
from train.model.code_file import FOLDER, read_code

_REMOTE_COMMANDS = ("run", "featurize", "verify", "compact", "train", "crossval", "tune", "evaluate", "predict")
_PATH_PARAMETERS = {
    "music": "MUSIC",
    "targets": "MUSIC",
    "features": "FEATURES",
    "folder": "FOLDER",
    "run": "RUN",
    "on": "--on",
    "out": "--out",
    "start": "--from",
}


@dataclasses.dataclass(frozen=True)
class RemoteCommand:
    """A parsed command line to run on a cluster.

    Attributes:
        name: Name of the command, such as `run`.
        arguments: Command line after `earmark`; reads its settings from `jobs.remote.code_bundle.SETTINGS`.
        settings: Settings of --config and --set combined, as YAML.
        paths: Paths and URIs that the command reads and writes, keyed by argument (MUSIC, --out).
        out: Output folder or URI, or the folder that is changed.
        code: Other files, by their path in the job's working directory: those of a user's models that
            `train.model` names, and the space of a search.
    """

    name: str
    arguments: list[str]
    settings: str
    paths: dict[str, str]
    out: str
    code: dict[str, bytes]

    @property
    def metadata(self) -> dict[str, str]:
        """What the dashboard shows of the job, without secrets: `verb`, `out`, and `dataset` if it reads one."""
        places = {"out": self.out}
        if read := next((self.paths[key] for key in ("FEATURES", "MUSIC", "--on") if key in self.paths), None):
            places["dataset"] = read
        return {"verb": self.name, **{name: _shown(place) for name, place in places.items()}}


def read_command(commands: Mapping[str, Any], words: Sequence[str]) -> RemoteCommand:
    """Parse a command line for a cluster.

    Args:
        commands: Click commands of `earmark`, by name.
        words: Name of the command and its arguments, as typed after `earmark`.

    Raises:
        ConfigError: The settings cannot be used.
        TrainError: The file of a user's model cannot be used.
        typer.BadParameter: The command cannot run on a cluster.
        click.UsageError: The command rejects its arguments.
    """
    name, *rest = words
    if name not in _REMOTE_COMMANDS:
        raise typer.BadParameter(
            f"a cluster runs {', '.join(_REMOTE_COMMANDS)}; found {name!r}", param_hint="COMMAND"
        )
    command = commands[name]
    values = _with_absolute_paths(command.make_context(f"earmark {name}", list(rest)).params)
    if name == "predict":
        if not values["out"]:
            raise typer.BadParameter(
                "a cluster writes answers to a folder. Add: --out ANSWERS", param_hint="predict"
            )
        prediction_limits(values["overrides"] or [], into_folder=True)
    config = load_config(values.get("config"), values.get("overrides") or [])
    paths = {
        label: value if isinstance(value, str) else str(value[0])
        for key, label in _PATH_PARAMETERS.items()
        if (value := values.get(key))
    }
    out = next(str(values[key]) for key in ("out", "run", "features", "folder") if values.get(key))
    config, code = _with_code(config)
    if name == "tune":
        space, of_space = _space_with_code(values["space"])
        values["space"] = SPACE
        code = {**code, SPACE: space, **of_space}
    return RemoteCommand(name, _rebuild(command, values), to_yaml(config), paths, out, code)


def _with_absolute_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of parameters with absolute paths: a job has another working directory."""

    def absolute(value: Any) -> Any:
        if isinstance(value, str):
            return value if is_uri(value) else os.path.abspath(value)
        return [absolute(each) for each in value]

    return {
        name: absolute(value) if value and name in _PATH_PARAMETERS else value for name, value in values.items()
    }


def _with_code(config: JobConfig) -> tuple[JobConfig, dict[str, bytes]]:
    """Return the settings with the path that the file of a user's model has in the job, and the file."""
    model, code = _model_with_code(config.train.model)
    return config.model_copy(update={"train": config.train.model_copy(update={"model": model})}), code


def _space_with_code(file: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return the space of a search with the paths that files of models have in the job, and these files."""
    read_space(file)  # refuses a space that cannot be used
    content = parse_yaml(file.read_bytes())
    code: dict[str, bytes] = {}
    if models := content.get("train.model"):
        pairs = [_model_with_code(model) for model in models]
        content["train.model"] = [model for model, _ in pairs]
        differ = any(code.setdefault(path, found) != found for _, files in pairs for path, found in files.items())
        if differ or len({*content["train.model"]}) < len(models):
            raise ConfigError("train.model: two files of the space have the same name. Rename one of them")
    return yaml.safe_dump(content, sort_keys=False).encode(), code


def _model_with_code(model: str) -> tuple[str, dict[str, bytes]]:
    """Return `train.model` with the path that the file of a user's model has in the job, and the file."""
    if not (code := read_code(model)):
        return model, {}
    path = f"{FOLDER}/{code.name.file}"
    return f"{path}:{code.name.function}", {path: code.content}


def _rebuild(command: Any, values: dict[str, Any]) -> list[str]:
    """Return the command line with a single --config SETTINGS instead of --config and --set, if it has both."""
    in_file = {"config": SETTINGS, "overrides": None} if "config" in values else {}
    return command_words(command, {**values, **in_file})


def _shown(place: str) -> str:
    return uri_without_secrets(place) if is_uri(place) else place
