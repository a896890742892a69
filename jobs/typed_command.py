"""The command line of a command that was parsed, as it could be typed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from featurize.place_uri import is_uri
from featurize.uri import uri_without_secrets, without_secrets


def command_words(command: Any, values: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line after `earmark`.

    Args:
        command: Click command.
        values: Value of each parameter; None and False are left out.
    """
    options: list[str] = []
    arguments: list[str] = []
    for parameter in command.params:
        value = values[parameter.name]
        if value in (None, False):
            continue
        if parameter.param_type_name == "argument":
            arguments += [value] if isinstance(value, str) else map(str, value)
        elif parameter.multiple:
            options += [word for item in value or () for word in (parameter.opts[0], str(item))]
        else:
            options += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return [command.name, *options, "--", *arguments] if arguments else [command.name, *options]


def recorded_command(context: typer.Context) -> list[str]:
    """Return the words of the command that is running, for run.json: without secrets and the home folder."""
    return [_recorded(word) for word in command_words(context.command, context.params)]


def _recorded(word: str) -> str:
    if is_uri(word):
        return uri_without_secrets(word)
    if (shown := _without_home(word)) != word:
        return shown
    name, equals, value = word.partition("=")  # of --set train.model=/home/someone/net.py:build
    return without_secrets(f"{name}{equals}{_without_home(value)}")


def _without_home(path: str) -> str:
    home = str(Path.home()).rstrip(os.sep)
    inside = path and (path == home or path.startswith(home + os.sep))
    return f"~{path[len(home) :]}" if inside else path
