"""The image of jobs/Dockerfile has all dependencies and packages of Earmark."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from support.deployment import DOCKERFILE, ROOT


def test_the_image_installs_the_dependencies_including_those_for_gpus(tmp_path):
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (command,) = re.findall(r"(?ms)^RUN (python -c .*? > packages.txt)", DOCKERFILE)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env={"PATH": path}, check=True)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    packages = (tmp_path / "packages.txt").read_text().splitlines()
    assert packages == [*project["dependencies"], *extras["gpu"]]
    assert DOCKERFILE.count("pip install --no-cache-dir -r packages.txt -c requirements.lock") == 1


def test_the_image_contains_every_package_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {word for line in re.findall(r"(?m)^COPY (?:--\S+ )*(.*) \S+$", DOCKERFILE) for word in line.split()}
    found = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = {*found, project["project"]["readme"]}
    needed |= {name for name in project["project"]["license-files"] if "/" not in name}
    assert needed | {"pyproject.toml", "requirements.lock"} == copied
