"""Parse YAML from files that may be hostile: limits on size, nesting, aliases and integers; no key twice.

YAML is parsed to events first, which needs no memory for what an alias stands for; only then are values built.
"""

from collections.abc import Hashable
from typing import Any

import yaml

from featurize.storage import StoragePath

LARGEST_YAML = 64 << 10  # bytes; all settings with their comments take 8 kB
DEEPEST = 16  # levels; the settings have two
_MOST_NODES = 10_000  # with the nodes that aliases stand for
_LONGEST_INTEGER = 20  # characters


def read_yaml(path: StoragePath) -> Any:
    """Read a YAML file.

    Raises:
        OSError: The file cannot be read.
        ValueError: As from `parse_yaml`.
    """
    return parse_yaml(path.read_at_most(LARGEST_YAML + 1))


def parse_yaml(content: bytes | str) -> Any:
    """Parse one YAML document.

    Dates stay text: no setting is one.

    Raises:
        ValueError: The content is no YAML or exceeds a limit. The message continues a sentence that begins with
            the name of the file, as in "is not YAML: ...".
    """
    if len(content) > LARGEST_YAML:
        raise ValueError(f"has more than {LARGEST_YAML:,} bytes, the maximum for settings")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        _refuse_bombs(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"is not YAML: {_problem(error)}") from error
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {_problem(error)}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Raised by PyYAML for a tag that does not fit its value, as in `!!bool text`.
        raise ValueError(f"is not YAML: a value does not fit its tag ({error})") from error


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates, long integers and repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (name := (key.tag, key.value)) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:40]!r} is there twice", key.start_mark
                    )
                seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _LONGEST_INTEGER:
            raise yaml.constructor.ConstructorError(
                None, None, f"an integer of {len(node.value):,} characters", node.start_mark
            )
        try:
            return int(super().construct_yaml_int(node))
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_bombs(text: str) -> None:
    """Count nodes and levels, with aliases replaced by what they stand for; raise a ValueError above a limit."""
    sizes: dict[str | None, int] = {}  # nodes of each finished anchor
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and number of nodes before it
    nodes = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = nodes - before
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        before = nodes
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"has the alias *{event.anchor} inside of its own value, or before it"[:200])
            nodes += sizes[event.anchor]
        else:
            nodes += 1
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, before))
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        if nodes > _MOST_NODES:
            raise ValueError(f"has more than {_MOST_NODES:,} values, those of aliases included")
        if len(open_nodes) > DEEPEST:
            raise ValueError(f"is nested more than {DEEPEST} deep")


def _problem(error: Exception) -> str:
    """Return the message of an error in one line, with the number of its line in the text."""
    mark = getattr(error, "problem_mark", None)
    message = getattr(error, "problem", None) or str(error)
    return " ".join(str(message).split()) + (f" (line {mark.line + 1})" if mark else "")
