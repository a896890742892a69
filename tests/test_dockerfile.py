"""The images of jobs/Dockerfile have the locked packages of their kind, and all packages of Earmark."""

import re
import tomllib

from support.deployment import DOCKERFILE, ROOT, groups, locked, rayjob

LOCKS = {"featurize": "featurize", "head": "train-cpu", "train": "train-gpu"}


def stages() -> dict[str, str]:
    """Return the instructions of each build stage, by name."""
    return dict(re.findall(r"(?ms)^FROM \S+ AS (\S+)$(.*?)(?=^FROM |\Z)", DOCKERFILE))


def test_each_image_installs_the_lock_of_its_kind():
    found = stages()
    assert set(found) == {"base", "code", *LOCKS}
    for name, lock in LOCKS.items():
        assert re.findall(r"requirements\S*", found[name]) == [f"requirements-{lock}.lock"] * 2
        assert (ROOT / f"requirements-{lock}.lock").is_file()
        assert found[name].count("COPY --from=code ") == 1
        assert found[name].count("pip install --no-cache-dir --no-deps .\n") == 1


def test_the_images_contain_every_package_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {
        word for line in re.findall(r"(?m)^COPY --chown=\S+ (.*) \S+$", stages()["code"]) for word in line.split()
    }
    found = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = {*found, project["project"]["readme"]}
    needed |= {name for name in project["project"]["license-files"] if "/" not in name}
    assert needed | {"pyproject.toml"} == copied


def test_every_pod_uses_an_image_of_the_dockerfile():
    images = {
        name: group["template"]["spec"]["containers"][0]["image"] for name, group in groups(rayjob()).items()
    }
    assert images == {
        "head": "REGISTRY/earmark-head:0.1.0",
        "cpu": "REGISTRY/earmark-featurize:0.1.0",
        "gpu": "REGISTRY/earmark-train:0.1.0",
    }
    assert "for kind in featurize head train; do" in DOCKERFILE


def test_the_base_image_has_the_locked_version_of_ray():
    assert re.findall(r"(?m)^FROM (\S+/\S+) AS base$", DOCKERFILE) == [f"rayproject/ray:{locked('ray')}-py311"]
