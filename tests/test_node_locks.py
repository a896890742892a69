"""The locks of the nodes of a cluster: the versions of requirements.lock, and what each kind of node needs."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.deployment import ROOT, lock

KINDS = ("featurize", "train-cpu", "train-gpu")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# The import name of a package where it is not the package's own.
IMPORTED = {"pyyaml": "yaml"}


def packages(group: str) -> Iterator[Requirement]:
    """Yield the requirements of a dependency group, with those of the groups that it includes."""
    for entry in PYPROJECT["dependency-groups"][group]:
        if isinstance(entry, str):
            yield Requirement(entry)
        else:
            yield from packages(entry["include-group"])


def pins(text: str) -> dict[str, set[str]]:
    """Return the versions of each package in a lock."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", text):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_has_the_versions_of_every_other_machine(kind):
    everywhere = pins(lock())
    everywhere["tensorflow-cpu"] = everywhere["tensorflow"]
    found = pins(lock(kind))
    assert {package.name for package in packages(kind)} <= found.keys()
    only_here = {name for name in found if name not in everywhere}
    assert all(name.startswith("nvidia-") for name in only_here)
    assert bool(only_here) == (kind == "train-gpu")
    assert {name: found[name] for name in found.keys() - only_here} == {
        name: everywhere[name] for name in found.keys() - only_here
    }


def test_running_needs_no_tools_of_development():
    """`make demo` installs requirements-run.lock, in the versions of all other machines."""
    everywhere, found = pins(lock()), pins(lock("run"))
    needed = {Requirement(each).name.lower() for each in PYPROJECT["project"]["dependencies"]}
    assert needed <= found.keys()
    assert {name: everywhere[name] for name in found} == found
    tools = {
        Requirement(each).name
        for extra in ("dev", "export")
        for each in PYPROJECT["project"]["optional-dependencies"][extra]
    }
    assert not (tools - {"earmark", "ray", "pandas"}) & found.keys()


def test_a_node_that_featurizes_has_what_featurize_imports_and_no_tensorflow():
    imports = set()
    for path in (ROOT / "featurize").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imports |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imports.add(str(node.module).partition(".")[0])
    imports -= {*sys.stdlib_module_names, "featurize"}
    assert imports == {IMPORTED.get(package.name, package.name) for package in packages("featurize")}
    assert not {"tensorflow", "tensorflow-cpu", "keras", "tensorboard"} & pins(lock("featurize")).keys()


@pytest.mark.parametrize("kind", ["train-cpu", "train-gpu"])
def test_every_other_node_has_all_dependencies(kind):
    def normal(requirement: Requirement) -> tuple[str, str, frozenset[str]]:
        extras = frozenset(requirement.extras - {"and-cuda"})
        return requirement.name.removesuffix("-cpu"), str(requirement.specifier), extras

    needed = {normal(Requirement(line)) for line in PYPROJECT["project"]["dependencies"]}
    found = {normal(package) for package in packages(kind)}
    # "ray[default]" of featurization beside "ray[default,train]"
    assert found - needed <= {normal(package) for package in packages("featurize") if package.name == "ray"}
    assert needed <= found


@pytest.mark.parametrize(
    ("platform", "machine", "expected"),
    [("linux", "x86_64", "tensorflow-cpu"), ("linux", "aarch64", "tensorflow"), ("darwin", "arm64", "tensorflow")],
)
def test_a_node_without_a_gpu_has_exactly_one_tensorflow(platform, machine, expected):
    """`tensorflow-cpu` has wheels for x86-64 only."""
    here = {"sys_platform": platform, "platform_machine": machine}
    lines = [Requirement(line) for line in lock("train-cpu").splitlines()]
    chosen = [
        r.name for r in lines if r.name.startswith("tensorflow") and (not r.marker or r.marker.evaluate(here))
    ]
    assert chosen == [expected]


def test_the_makefile_locks_every_kind_of_node():
    recipe = (Path(ROOT) / "Makefile").read_text().partition("\nlock:\n")[2].partition("\nclean:")[0]
    assert f"for group in {' '.join(KINDS)}; do" in recipe
