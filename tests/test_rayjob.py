"""jobs/rayjob.yaml is valid by the schema of KubeRay, and its command by the command line."""

import copy
import json
import shlex
from collections.abc import Iterator

import jsonschema
import pytest
import yaml
from support.deployment import ROOT, groups, locked, rayjob

SCHEMA = json.loads((ROOT / "tests" / "rayjob.schema.json").read_text())


@pytest.mark.parametrize("blocks", [(), ("volume",), ("gke",), ("volume", "gke")], ids=str)
def test_the_rayjob_has_only_fields_of_kuberay(blocks):
    manifest = rayjob(*blocks)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(manifest, SCHEMA)
    mounted = {name for name, group in groups(manifest).items() if "volumes" in group["template"]["spec"]}
    assert mounted == ({"head", "cpu", "gpu"} if "volume" in blocks else set())
    selector = groups(manifest)["gpu"]["template"]["spec"].get("nodeSelector", {})
    assert set(selector) == ({"cloud.google.com/gke-accelerator"} if "gke" in blocks else set())


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
    manifest = rayjob("volume", "gke")
    # Labels may have any name.
    paths = [path for path in keys_of(manifest) if not {"nodeSelector", "labels"} & set(path[:-1])]
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


def test_a_stopped_job_has_as_long_for_its_checkpoint_as_a_submitted_one():
    from jobs.remote.submit import _ENVIRONMENT

    seconds = yaml.safe_load(rayjob()["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]
    assert seconds == _ENVIRONMENT["RAY_JOB_STOP_WAIT_TIME_S"]


def test_pods_for_featurization_say_that_they_lack_tensorflow_to_an_autoscaler_that_obeys_labels():
    manifest = rayjob()
    assert manifest["spec"]["rayClusterSpec"]["autoscalerOptions"]["version"] == "v2"
    labels = {name: group.get("labels") for name, group in groups(manifest).items()}
    assert labels == {"head": None, "cpu": {"earmark/packages": "featurize"}, "gpu": None}


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


def test_the_cluster_has_the_locked_version_of_ray():
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == locked("ray")
