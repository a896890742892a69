"""cluster.yaml is valid by the schemas of Ray and EC2, and its setup commands work."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.deployment import CLUSTER, DOCKERFILE, RAYJOB, ROOT, cluster, locked, uncommented
from support.ray_private import checked


@pytest.mark.parametrize("kind", ["aws", "gcp", "local"])
def test_ray_accepts_the_cluster_on_each_provider(kind):
    config = checked(cluster(kind))
    assert config["provider"]["type"] == kind
    if kind == "local":
        assert config["max_workers"] == len(config["provider"]["worker_ips"])
    else:
        assert list(config["available_node_types"]) == ["head", "cpu", "gpu"]
        assert config["max_workers"] == sum(t["max_workers"] for t in config["available_node_types"].values())


def test_ray_refuses_an_unknown_field():
    config = cluster()
    config["idle_timeout"] = config.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        checked(config)


@pytest.mark.parametrize("kind", ["gcp", "local"])
def test_a_block_for_another_provider_only_replaces_existing_fields(kind):
    (block,) = uncommented(CLUSTER, kind)
    assert set(yaml.safe_load(block)) <= set(cluster())


def refusal_by_ec2(node_config: dict) -> str:
    """Return the errors that EC2's schema of RunInstances finds in the config of a node; empty if none."""
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    return ParamValidator().validate({**node_config, "MinCount": 1, "MaxCount": 1}, shape).generate_report()


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_ec2_accepts_every_field_of_a_node(name):
    node_config = cluster()["available_node_types"][name]["node_config"]
    assert not refusal_by_ec2(node_config)
    assert "InstanceTyp" in refusal_by_ec2({**node_config, "InstanceTyp": "m6i.xlarge"})


def test_only_cpu_workers_are_spot_machines():
    types = cluster()["available_node_types"]
    spot = {name for name, fields in types.items() if "InstanceMarketOptions" in fields["node_config"]}
    assert spot == {"cpu"}
    assert {
        n for n, fields in cluster("gcp")["available_node_types"].items() if "preemptible" in str(fields)
    } == spot


def test_every_machine_has_its_own_access_to_the_bucket_and_only_the_head_may_start_machines():
    types = cluster()["available_node_types"]
    profiles = {name: fields["node_config"]["IamInstanceProfile"]["Name"] for name, fields in types.items()}
    assert profiles == {"head": "earmark-head", "cpu": "earmark-worker", "gpu": "earmark-worker"}


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_no_machine_uses_the_public_security_group_of_ray(name):
    assert cluster()["available_node_types"][name]["node_config"]["SecurityGroupIds"]


@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_node_starts_ray_with_the_environment_and_the_token(role):
    stop, start = cluster()[f"{role}_start_ray_commands"]
    assert stop.endswith("ray stop")
    exports, _, rest = start.partition(";")
    assert exports == (
        "export PATH=$HOME/earmark/venv/bin:$PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token"
        " RAY_USAGE_STATS_ENABLED=0"
    )
    assert "ray start " in rest
    if role == "head":
        assert {"--num-cpus=0", "--dashboard-host=127.0.0.1"} <= set(rest.split())


def test_the_files_contain_no_secret():
    for text in (CLUSTER, RAYJOB, DOCKERFILE):
        assert not re.search(r"RAY_AUTH_TOKEN\b|[0-9a-f]{24}|AKIA|(?i:secret_?access|password)", text)


def run_setup(config: dict, home: Path, needed: str) -> None:
    """Run the setup commands that contain `needed`, with another home folder."""
    commands = [command for command in config["setup_commands"] if needed in command]
    assert commands
    for command in commands:
        subprocess.run(["bash", "-c", command], env={"HOME": str(home), "PATH": os.environ["PATH"]}, check=True)


def test_a_node_installs_the_dependencies_in_locked_versions(tmp_path):
    config = cluster()
    (tmp_path / "earmark" / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "earmark" / "venv" / "bin" / "python").symlink_to(sys.executable)
    for remote, local in config["file_mounts"].items():
        if remote.startswith("~/earmark/"):
            shutil.copy(ROOT / local, tmp_path / remote.removeprefix("~/"))
    run_setup(config, tmp_path, needed="tomllib")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = (tmp_path / "earmark" / "packages.txt").read_text().splitlines()
    assert packages == project["dependencies"]
    assert all(locked(re.split(r"[<>=\[]", package)[0]) for package in packages)


@pytest.mark.parametrize("kind", ["aws", "gcp", "local"])
def test_every_installation_on_a_node_uses_the_lock_file(kind):
    config = cluster(kind)
    commands = [
        c for part in ("", "head_", "worker_") for c in config[f"{part}setup_commands"] if "pip install" in c
    ]
    assert len(commands) >= 2
    assert all("-c ~/earmark/requirements.lock" in command for command in commands)


def test_repeated_setup_writes_the_environment_of_a_shell_once(tmp_path):
    for _ in range(2):
        run_setup(cluster(), tmp_path, needed=".bashrc")
    assert (tmp_path / ".bashrc").read_text().splitlines() == [
        "export PATH=$HOME/earmark/venv/bin:$PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token"
    ]
