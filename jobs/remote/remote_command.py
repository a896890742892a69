"""A command line that is to be run elsewhere: read by the rules of its verb, so that mistakes are found here."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from jobs.config import load_config, to_yaml
from jobs.remote.code_bundle import SETTINGS

_VERBS = ("run", "featurize", "train", "crossval", "evaluate")
_PLACES = {"music": "MUSIC", "features": "FEATURES", "run": "RUN", "out": "--out"}


@dataclasses.dataclass(frozen=True)
class Command:
    """A verb with its arguments.

    Attributes:
        verb: its name.
        arguments: the verb and what follows it, with the settings in `jobs.remote.code_bundle.SETTINGS`.
        settings: what --config and --set come to, as YAML.
        places: what it reads and writes, by the names of the arguments.
        out: where its results go.
    """

    verb: str
    arguments: list[str]
    settings: str
    places: dict[str, str]
    out: str


def read_command(verbs: Mapping[str, Any], words: Sequence[str]) -> Command:
    """Read a command line.

    Args:
        verbs: the commands of the command line, by name.
        words: the verb and its arguments, as they would be typed after `earmark`.

    Raises:
        ConfigError: the settings cannot be used.
        typer.BadParameter: the verb is not one that a cluster can run.
        click.UsageError: the verb's own, where its arguments are not what it expects.
    """
    verb, *rest = words
    if verb not in _VERBS:
        raise typer.BadParameter(f"a cluster runs {', '.join(_VERBS)}; found {verb!r}", param_hint="VERB")
    known = verbs[verb]
    given = known.make_context(f"earmark {verb}", list(rest)).params
    config = load_config(given.get("config"), given.get("overrides") or [])
    places = {name: str(given[key]) for key, name in _PLACES.items() if given.get(key)}
    return Command(
        verb, _rebuilt(known, given), to_yaml(config), places, str(given.get("out") or given.get("run"))
    )


def _rebuilt(verb: Any, given: dict[str, Any]) -> list[str]:
    """Write the command line again, with one file in the place of --config and --set."""
    options, arguments = [], []
    for parameter in verb.params:
        value = given[parameter.name]
        if parameter.name == "config":
            options += ["--config", SETTINGS]
        elif parameter.name == "overrides" or value in (None, False):
            continue
        elif parameter.param_type_name == "argument":
            arguments.append(str(value))
        else:
            options += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return [verb.name, *options, "--", *arguments]
