"""docs/licenses.md lists what pyproject.toml requires, with the licenses that the installed packages state."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LISTED = dict(
    re.findall(
        r"^\| (?!package )([a-z][a-z0-9-]+) \| ([^|]+) \|$",
        (ROOT / "docs" / "licenses.md").read_text(),
        re.MULTILINE,
    )
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [line for name, lines in PROJECT["optional-dependencies"].items() if name != "dev" for line in lines]


def test_every_package_that_users_install_is_listed():
    assert LISTED.keys() == {Requirement(line).name for line in (*PROJECT["dependencies"], *EXTRAS)}


def test_the_licenses_are_those_that_the_packages_state():
    installed = {name for name in LISTED if list(metadata.Distribution.discover(name=name))}
    assert LISTED.keys() - installed <= {"mirdata", "mlflow-skinny"}  # of extras that no test needs
    stated = {name: metadata.metadata(name).get("License-Expression") for name in installed}
    assert sum(map(bool, stated.values())) > len(LISTED) / 3
    for name, license_expression in stated.items():
        assert license_expression in (None, LISTED[name])


def test_no_package_under_the_gpl_is_required():
    assert not [name for name, license_name in LISTED.items() if re.search(r"(?<!L)GPL", license_name)]
