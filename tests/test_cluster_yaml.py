"""cluster.yaml is valid by the schemas of Ray and EC2, and its setup commands work."""

import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.deployment import CLUSTER, DOCKERFILE, RAYJOB, ROOT, cluster, uncommented
from support.ray_private import checked

FEATURIZATION = ["cpu", "cpu-amd", "cpu-on-demand"]
TRAINING = ["train-cpu", "gpu"]


@pytest.mark.parametrize("kind", ["aws", "h100", "gcp", "local"])
def test_ray_accepts_the_cluster_on_each_provider(kind):
    config = checked(cluster(kind))
    assert config["provider"]["type"] == ("aws" if kind == "h100" else kind)
    types = config["available_node_types"]
    if kind == "local":
        assert config["max_workers"] == len(config["provider"]["worker_ips"])
    else:
        expected = ["cpu", "gpu"] if kind == "gcp" else [*FEATURIZATION, *TRAINING]
        assert list(types) == ["head", *expected]
        # Featurization at its maximum leaves room for training.
        assert config["max_workers"] >= sum(t["max_workers"] for t in types.values())


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


@pytest.mark.parametrize("kind", ["aws", "h100"])
@pytest.mark.parametrize("name", ["head", *FEATURIZATION, *TRAINING])
def test_ec2_accepts_every_field_of_a_node(name, kind):
    node_config = cluster(kind)["available_node_types"][name]["node_config"]
    assert not refusal_by_ec2(node_config)
    assert "InstanceTyp" in refusal_by_ec2({**node_config, "InstanceTyp": "m6i.xlarge"})


def test_spot_machines_featurize_and_do_nothing_else():
    types = cluster()["available_node_types"]
    spot = {name for name, fields in types.items() if "InstanceMarketOptions" in fields["node_config"]}
    assert spot == {"cpu", "cpu-amd"}
    gcp = cluster("gcp")["available_node_types"]
    assert {name for name, fields in gcp.items() if "preemptible" in str(fields)} == {"cpu"}


def test_the_machines_for_featurization_differ_only_in_kind_price_and_order():
    first, *others = (cluster()["available_node_types"][name] for name in FEATURIZATION)
    may_differ = {"max_workers", "priority", "node_config"}
    for other in others:
        assert {name for name in first if first[name] != other[name]} <= may_differ
        node = first["node_config"] | {"InstanceMarketOptions": None}
        compared = other["node_config"] | {"InstanceMarketOptions": None}
        assert {name for name in node if node[name] != compared[name]} <= {"InstanceType"}
    priorities = [cluster()["available_node_types"][name]["priority"] for name in FEATURIZATION]
    assert priorities == sorted(priorities, reverse=True)


def test_every_machine_has_its_own_access_to_the_bucket_and_only_the_head_may_start_machines():
    types = cluster()["available_node_types"]
    profiles = {name: fields["node_config"]["IamInstanceProfile"]["Name"] for name, fields in types.items()}
    assert profiles == {"head": "earmark-head", **dict.fromkeys([*FEATURIZATION, *TRAINING], "earmark-worker")}


@pytest.mark.parametrize("name", ["head", *FEATURIZATION, *TRAINING])
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


def setup_of(config: dict, name: str) -> list[str]:
    """Return the setup commands of a type of machine, as `ray up` and the autoscaler choose them."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    chosen = AutoscalingConfig(config, skip_content_hash=True)
    return chosen.get_head_setup_commands() if name == "head" else chosen.get_worker_setup_commands(name)


@pytest.mark.parametrize("kind", ["aws", "gcp"])
def test_only_machines_without_tensorflow_say_so(kind):
    for name, fields in cluster(kind)["available_node_types"].items():
        commands = setup_of(cluster(kind), name)
        assert commands[0] == "chmod 600 ~/.ray/auth_token"
        (kind_of_node,) = re.findall(r"node_setup\.sh (\S+)", " ".join(commands))
        assert kind_of_node == ("featurize" if name in FEATURIZATION else "train")
        labels = {"earmark/packages": "featurize"} if kind_of_node == "featurize" else {}
        assert fields.get("labels", {}) == labels


def test_every_installation_of_the_head_uses_the_lock_file():
    for kind in ("aws", "gcp"):
        (command,) = cluster(kind)["head_setup_commands"]
        assert command.endswith("-c ~/earmark/requirements.lock")


@pytest.fixture
def machine(tmp_path) -> Path:
    """The home of a new machine, with the files that Ray copies to it and a `python3` that installs nothing."""
    (tmp_path / "earmark").mkdir()
    for remote, local in cluster()["file_mounts"].items():
        if remote.startswith("~/earmark/"):
            shutil.copy(ROOT / local, tmp_path / remote.removeprefix("~/"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(
        '#!/bin/sh\necho "$@" >> ~/installed\n'
        'if [ "$2" = venv ]; then mkdir -p venv/bin; ln -sf ~/bin/python3 venv/bin/python; fi\n'
    )
    (tmp_path / "bin" / "python3").chmod(0o755)
    return tmp_path


def set_up(home: Path, kind: str) -> list[str]:
    """Run the setup of a machine; return the commands of Python that it ran so far."""
    path = f"{home}/bin:/usr/bin:/bin"
    command = ["bash", str(home / "earmark" / "node_setup.sh"), kind]
    subprocess.run(command, env={"HOME": str(home), "PATH": path}, cwd="/", check=True)
    return (home / "installed").read_text().splitlines()


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("kind", ["featurize", "train"])
def test_a_machine_installs_the_lock_of_its_kind_once(kind, gpu, machine):
    if gpu:
        (machine / "bin" / "nvidia-smi").symlink_to("/bin/true")
    name = kind if kind == "featurize" else f"train-{'gpu' if gpu else 'cpu'}"
    install = f"-m pip install --quiet --disable-pip-version-check --requirement requirements-{name}.lock"
    first = set_up(machine, kind)
    assert first == ["-m venv --clear venv", install]
    assert set_up(machine, kind) == first  # as on an image that was baked
    (machine / "earmark" / f"requirements-{name}.lock").write_text("ray==9\n")
    assert set_up(machine, kind) == first * 2
    assert (machine / ".bashrc").read_text().splitlines() == [
        "export PATH=$HOME/earmark/venv/bin:$PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token"
    ]


def test_an_interrupted_installation_is_repeated(machine):
    python = machine / "bin" / "python3"
    whole = python.read_text()
    python.write_text(whole + 'test "$2" != pip\n')
    with pytest.raises(subprocess.CalledProcessError):
        set_up(machine, "featurize")
    python.write_text(whole)
    assert len(set_up(machine, "featurize")) == 4


def test_an_unknown_kind_of_machine_is_refused(machine):
    with pytest.raises(subprocess.CalledProcessError):
        set_up(machine, "gpu")


def test_the_quotas_in_the_docs_are_those_of_all_machines():
    cores = {"m6i.xlarge": 4, "g4dn.xlarge": 4}  # all others are of the size that has 16
    quotas = {"Spot": 0, "Standard": 0, "G and VT": 0, "P": 0}
    for kind in ("aws", "h100"):
        for name, fields in cluster(kind)["available_node_types"].items():
            node = fields["node_config"]
            if (kind == "h100") != (node["InstanceType"] == "p5.4xlarge"):
                continue
            family = {"g": "G and VT", "p": "P"}.get(node["InstanceType"][0], "Standard")
            quota = "Spot" if "InstanceMarketOptions" in node else family
            machines = 1 if name == "head" else fields["max_workers"]
            quotas[quota] += machines * cores.get(node["InstanceType"], 16)
    page = (ROOT / "docs" / "cluster.md").read_text()
    rows = re.findall(r"(?m)^ *\| ((?:All|Running) [^|]+) \| (\d+) \|", page)
    documented = {
        next(key for key in quotas if re.search(rf"{key}(?= Instance Requests| \(| instances)", row)): int(vcpus)
        for row, vcpus in rows
        if "Spot" not in row
    }
    documented["Spot"] = next(int(vcpus) for row, vcpus in rows if "Spot" in row)
    assert documented == quotas
