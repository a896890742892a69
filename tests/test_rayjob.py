"""jobs/rayjob.yaml is valid by the schema of KubeRay, and its command by the command line."""

import copy
import json
import re
import shlex
from collections.abc import Iterator

import jsonschema
import pytest
from support.deployment import DOCKERFILE, ROOT, groups, locked, rayjob

SCHEMA = json.loads((ROOT / "tests" / "rayjob.schema.json").read_text())


@pytest.mark.parametrize("volume", [False, True], ids=["bucket", "volume"])
def test_the_rayjob_has_only_fields_of_kuberay(volume):
    manifest = rayjob(volume)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(manifest, SCHEMA)
    mounted = {name for name, group in groups(manifest).items() if "volumes" in group["template"]["spec"]}
    assert mounted == ({"head", "cpu", "gpu"} if volume else set())


def keys_of(node: object, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every key in nested objects and arrays."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from keys_of(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from keys_of(value, (*path, index))


def test_a_rayjob_with_a_typo_in_any_key_is_refused():
    manifest = rayjob(volume=True)
    # The keys of a nodeSelector are labels, which may have any name.
    paths = [path for path in keys_of(manifest) if "nodeSelector" not in path[:-1]]
    assert len(paths) > 90
    for path in paths:
        broken = copy.deepcopy(manifest)
        parent = broken
        for step in path[:-1]:
            parent = parent[step]
        parent[f"{path[-1]}x"] = parent.pop(path[-1])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_the_rayjob_requires_a_token():
    assert rayjob()["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_the_rayjob_runs_a_valid_command():
    import typer

    from jobs.commands.app import app

    python, m, module, command, *arguments = shlex.split(rayjob()["spec"]["entrypoint"])
    assert (python, m, module) == ("python", "-m", "jobs.cli")
    context = typer.main.get_command(app).commands[command].make_context(command, arguments)
    assert {"s3://BUCKET/music", "s3://BUCKET/run"} <= {str(value) for value in context.params.values()}


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_the_limits_of_a_pod_equal_its_requests(name):
    (container,) = groups(rayjob())[name]["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (name == "gpu")


def test_ray_has_the_same_version_everywhere():
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == locked("ray")
    assert re.findall(r"(?m)^FROM (\S+)$", DOCKERFILE) == [f"rayproject/ray:{locked('ray')}-py311"]
