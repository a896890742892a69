"""The files by which a cluster is brought up: Ray, EC2's own rules and KubeRay's fields must agree with them."""

import contextlib
import copy
import errno
import json
import os
import pwd
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.ray_private import FEATURIZATION, RAY, as_ray_sees_it, checked, started_for

ROOT = Path(__file__).parent.parent
CLUSTER = (ROOT / "cluster.yaml").read_text()
RAYJOB = (ROOT / "jobs" / "rayjob.yaml").read_text()
DOCKERFILE = (ROOT / "jobs" / "Dockerfile").read_text()
SCHEMA = json.loads((ROOT / "tests" / "rayjob.schema.json").read_text())


def locked(package: str) -> str:
    """The version of a package in requirements.lock."""
    return re.findall(rf"(?m)^{package}==(\S+)", (ROOT / "requirements.lock").read_text())[0]


def uncommented(text: str, name: str) -> list[str]:
    """The blocks between the marks `>>> name` and `<<< name`, as they read without their comment signs."""
    blocks = re.findall(rf"(?ms)^ *# >>> {name}\n(.*?)^ *# <<< {name}$", text)
    assert blocks, f"no block is marked {name}"
    return [re.sub(r"(?m)^( *)# ", r"\1", block) for block in blocks]


def cluster(kind: str = "aws") -> dict:
    """cluster.yaml as it stands, or with the fields of the block for another provider put in place."""
    config = yaml.safe_load(CLUSTER)
    if kind != "aws":
        (block,) = uncommented(CLUSTER, kind)
        config.update(yaml.safe_load(block))
    return config


def rayjob(volume: bool = False) -> dict:
    """jobs/rayjob.yaml as it stands, or with the blocks for a shared volume."""
    text = RAYJOB
    if volume:
        for commented, block in zip(
            re.findall(r"(?ms)^ *# >>> volume\n(.*?)^ *# <<< volume$", text),
            uncommented(text, "volume"),
            strict=True,
        ):
            text = text.replace(commented, block)
    return yaml.safe_load(text)


def groups(manifest: dict) -> dict[str, dict]:
    """The head's and the workers' groups of a RayJob, by name."""
    spec = manifest["spec"]["rayClusterSpec"]
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}


def autoscaled(kind: str) -> dict:
    return as_ray_sees_it(rayjob()) if kind == "kuberay" else checked(cluster(kind))


# cluster.yaml


@pytest.mark.parametrize("kind", ["aws", "gcp", "local"])
def test_ray_accepts_the_cluster_on_each_provider(kind):
    config = checked(cluster(kind))
    assert config["provider"]["type"] == kind
    if kind == "local":
        assert config["max_workers"] == len(config["provider"]["worker_ips"])
    else:
        assert list(config["available_node_types"]) == ["head", "cpu", "gpu"]
        assert config["max_workers"] == sum(t["max_workers"] for t in config["available_node_types"].values())


def test_ray_refuses_the_cluster_with_a_field_that_it_does_not_know():
    config = cluster()
    config["idle_timeout"] = config.pop("idle_timeout_minutes")
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        checked(config)


@pytest.mark.parametrize("kind", ["gcp", "local"])
def test_a_block_for_another_provider_only_replaces_fields_that_are_there(kind):
    (block,) = uncommented(CLUSTER, kind)
    assert set(yaml.safe_load(block)) <= set(cluster())


def refusal_by_ec2(node_config: dict) -> str:
    """What EC2's own description of the request to start machines has against a node's config."""
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    return ParamValidator().validate({**node_config, "MinCount": 1, "MaxCount": 1}, shape).generate_report()


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_ec2_knows_every_field_of_a_node(name):
    node_config = cluster()["available_node_types"][name]["node_config"]
    assert not refusal_by_ec2(node_config)
    assert "InstanceTyp" in refusal_by_ec2({**node_config, "InstanceTyp": "m6i.xlarge"})


def test_only_the_machines_whose_loss_is_cheap_are_spot_machines():
    types = cluster()["available_node_types"]
    spot = {name for name, fields in types.items() if "InstanceMarketOptions" in fields["node_config"]}
    assert spot == {"cpu"}
    assert {
        n for n, fields in cluster("gcp")["available_node_types"].items() if "preemptible" in str(fields)
    } == spot


def test_every_machine_reaches_the_bucket_by_rights_of_its_own_and_only_the_head_may_start_machines():
    types = cluster()["available_node_types"]
    profiles = {name: fields["node_config"]["IamInstanceProfile"]["Name"] for name, fields in types.items()}
    assert profiles == {"head": "earmark-head", "cpu": "earmark-worker", "gpu": "earmark-worker"}


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_no_machine_is_left_to_the_security_group_that_ray_opens_to_the_world(name):
    assert cluster()["available_node_types"][name]["node_config"]["SecurityGroupIds"]


@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_node_starts_ray_with_the_environment_and_the_token(role):
    stop, start = cluster()[f"{role}_start_ray_commands"]
    assert stop.endswith("ray stop")
    exports, _, rest = start.partition(";")
    assert exports == (
        "export PATH=$HOME/earmark/venv/bin:$PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token"
    )
    assert "ray start " in rest
    if role == "head":
        assert {"--num-cpus=0", "--dashboard-host=127.0.0.1"} <= set(rest.split())


def test_no_secret_stands_in_the_files():
    for text in (CLUSTER, RAYJOB, DOCKERFILE):
        assert not re.search(r"RAY_AUTH_TOKEN\b|[0-9a-f]{24}|AKIA|(?i:secret_?access|password)", text)


def run_setup(config: dict, home: Path, needed: str) -> None:
    """Run those setup commands that name something, as a node would with this home."""
    commands = [command for command in config["setup_commands"] if needed in command]
    assert commands
    for command in commands:
        subprocess.run(["bash", "-c", command], env={"HOME": str(home), "PATH": os.environ["PATH"]}, check=True)


def test_a_node_installs_what_earmark_runs_with_in_the_locked_versions(tmp_path):
    config = cluster()
    (tmp_path / "earmark" / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "earmark" / "venv" / "bin" / "python").symlink_to(sys.executable)
    for remote, local in config["file_mounts"].items():
        if remote.startswith("~/earmark/"):
            shutil.copy(ROOT / local, tmp_path / remote.removeprefix("~/"))
    run_setup(config, tmp_path, needed="tomllib")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = (tmp_path / "earmark" / "packages.txt").read_text().splitlines()
    assert packages == [*project["dependencies"], *project["optional-dependencies"]["av"]]
    assert all(locked(re.split(r"[<>=\[]", package)[0]) for package in packages)


@pytest.mark.parametrize("kind", ["aws", "gcp", "local"])
def test_every_installation_on_a_node_is_held_to_the_lock(kind):
    config = cluster(kind)
    commands = [
        c for part in ("", "head_", "worker_") for c in config[f"{part}setup_commands"] if "pip install" in c
    ]
    assert len(commands) >= 2
    assert all("-c ~/earmark/requirements.lock" in command for command in commands)


def test_a_shell_on_a_node_finds_the_environment_and_the_token_however_often_it_is_set_up(tmp_path):
    for _ in range(2):
        run_setup(cluster(), tmp_path, needed=".bashrc")
    assert (tmp_path / ".bashrc").read_text().splitlines() == [
        "export PATH=$HOME/earmark/venv/bin:$PATH RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token"
    ]


# What is started for what, by Ray's own autoscaler


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_no_machine_is_started_for_nothing(kind):
    assert started_for(autoscaled(kind)) == {}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_features_are_made_without_a_single_gpu_machine(kind):
    config = autoscaled(kind)
    assert started_for(config, tasks=1) == {"cpu": 1}
    assert started_for(config, tasks=100_000) == {"cpu": config["available_node_types"]["cpu"]["max_workers"]}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_a_gpu_machine_that_offered_memory_would_be_started_for_features(kind):
    config = autoscaled(kind)
    config["available_node_types"]["gpu"]["resources"]["memory"] = 12_000_000_000
    assert "gpu" in started_for(config, tasks=100_000)


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_training_starts_gpu_machines_and_no_others(kind):
    assert started_for(autoscaled(kind), workers=2) == {"gpu": 2}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_the_head_offers_no_core_to_tasks(kind):
    config = autoscaled(kind)
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_a_worker_has_memory_for_as_many_tasks_as_cores(kind):
    resources = autoscaled(kind)["available_node_types"]["cpu"]["resources"]
    assert resources["memory"] >= resources["CPU"] * FEATURIZATION["memory"]


# jobs/rayjob.yaml and jobs/Dockerfile


@pytest.mark.parametrize("volume", [False, True], ids=["bucket", "volume"])
def test_the_rayjob_has_only_fields_that_kuberay_knows(volume):
    manifest = rayjob(volume)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(manifest, SCHEMA)
    mounted = {name for name, group in groups(manifest).items() if "volumes" in group["template"]["spec"]}
    assert mounted == ({"head", "cpu", "gpu"} if volume else set())


def keys_of(node: object, path: tuple = ()) -> Iterator[tuple]:
    """The path of every key in nested objects and arrays."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from keys_of(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from keys_of(value, (*path, index))


def test_a_rayjob_with_a_slip_in_any_key_is_refused():
    manifest = rayjob(volume=True)
    paths = [
        path for path in keys_of(manifest) if "nodeSelector" not in path[:-1]
    ]  # its keys are labels: any will do
    assert len(paths) > 90
    for path in paths:
        broken = copy.deepcopy(manifest)
        parent = broken
        for step in path[:-1]:
            parent = parent[step]
        parent[f"{path[-1]}x"] = parent.pop(path[-1])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_the_rayjob_asks_for_a_token():
    assert rayjob()["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_the_rayjob_runs_a_command_that_earmark_understands():
    import typer

    from jobs.cli import app

    python, m, module, verb, *arguments = shlex.split(rayjob()["spec"]["entrypoint"])
    assert (python, m, module) == ("python", "-m", "jobs.cli")
    context = typer.main.get_command(app).commands[verb].make_context(verb, arguments)
    assert {"s3://BUCKET/music", "s3://BUCKET/run"} <= {str(value) for value in context.params.values()}


@pytest.mark.parametrize("name", ["head", "cpu", "gpu"])
def test_a_pod_gets_what_it_asks_for_and_no_more(name):
    (container,) = groups(rayjob())[name]["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (name == "gpu")


def test_ray_has_one_version_everywhere():
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == locked("ray")
    assert re.findall(r"(?m)^FROM (\S+)$", DOCKERFILE) == [f"rayproject/ray:{locked('ray')}-py311"]


def test_the_image_installs_what_earmark_runs_with_and_trains_on_gpus_with(tmp_path):
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (command,) = re.findall(r"(?ms)^RUN (python -c .*? > packages.txt)", DOCKERFILE)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env={"PATH": path}, check=True)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    packages = (tmp_path / "packages.txt").read_text().splitlines()
    assert packages == [*project["dependencies"], *extras["av"], *extras["gpu"]]
    assert DOCKERFILE.count("pip install --no-cache-dir -r packages.txt -c requirements.lock") == 1


def test_the_image_holds_every_package_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {word for line in re.findall(r"(?m)^COPY (?:--\S+ )*(.*) \S+$", DOCKERFILE) for word in line.split()}
    found = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = {*found, project["project"]["readme"]}
    needed |= {name for name in project["project"]["license-files"] if "/" not in name}
    assert needed | {"pyproject.toml", "requirements.lock"} == copied


# For real, on two machines that are none


@dataclass
class Machine:
    """An sshd with a home and a process table of its own, on one of this machine's loopback addresses."""

    address: str
    home: Path
    process: subprocess.Popen


def apart() -> list[str]:
    """What to put before a command to give it a process table of its own, which ends with it.

    `ray stop` ends every Ray that it sees: here it must see that of its own machine and no other.
    """
    user = [] if os.getuid() == 0 else ["--user", "--map-current-user"]
    return ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]


def missing() -> str:
    """What this machine lacks for two machines on its loopback addresses, or nothing."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    lacking = [name for name in ("ssh", "ssh-keygen", "rsync", "unshare") if not shutil.which(name)]
    if not sshd or lacking:
        return f"not installed: {', '.join([*lacking, *([] if sshd else ['sshd'])])}"
    if subprocess.run([*apart(), "true"], capture_output=True, check=False).returncode:
        return "no process namespace may be made here"
    try:
        free_port("127.0.0.3")
    except OSError:
        return "127.0.0.3 is no address of this machine"
    return ""


def free_port(address: str) -> int:
    """A port that nobody has, clear of those that Ray gives its workers (10002 to 19999) and of the kernel's."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise OSError(f"no free port on {address}")


@pytest.fixture
def two_machines() -> Iterator[tuple[Path, Machine, Machine]]:
    """A folder, and two machines that answer ssh with the key in it."""
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="earmark-") as name, contextlib.ExitStack() as cleanup:
        folder = Path(name)  # not tmp_path: Ray's sockets below it must have names of at most 107 characters
        port = free_port("127.0.0.2")
        for key in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        # Ray has no field for ssh's port, and ssh looks for its config and for Ray's copy of the key in the user's
        # real home: a stand-in tells it of both.
        (folder / "bin").mkdir()
        (folder / "bin" / "ssh").write_text(
            f'#!/bin/sh\nexec {shutil.which("ssh")} -F none -p {port} -i "$HOME/ray_bootstrap_key.pem" "$@"\n'
        )
        (folder / "bin" / "ssh").chmod(0o755)
        machines = [start_machine(folder, address, port, cleanup) for address in ("127.0.0.2", "127.0.0.3")]
        yield folder, *machines


def start_machine(folder: Path, address: str, port: int, cleanup: contextlib.ExitStack) -> Machine:
    home = folder / address
    (home / "earmark").mkdir(parents=True)
    # What `setup_commands` would install is what these tests run with.
    (home / "earmark" / "venv").symlink_to(sys.prefix)
    (home / ".bashrc").write_text(f"export PATH={folder}/bin:$PATH\n")
    (home / "sshd_config").write_text(
        f"""
        ListenAddress {address}:{port}
        HostKey {folder}/host_key
        AuthorizedKeysFile {folder}/key.pub
        StrictModes no
        UsePAM no
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        PermitRootLogin prohibit-password
        PidFile none
        SetEnv HOME={home} RAY_TMPDIR={home} RAY_gcs_rpc_server_reconnect_timeout_s=5
        """
    )
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    # As root, sshd wants an empty folder in /run; the mounts are this machine's own.
    own_run = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && " if os.getuid() == 0 else ""
    command = [*apart(), "sh", "-c", f"{own_run}exec {sshd} -D -e -f {home}/sshd_config"]
    with open(home / "sshd.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    cleanup.callback(process.wait)
    cleanup.callback(process.kill)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return Machine(address, home, process)
        assert process.poll() is None, (home / "sshd.log").read_text()
        time.sleep(0.1)
    raise TimeoutError((home / "sshd.log").read_text())


def asked(url: str, token: str | None = None) -> dict:
    """What a dashboard answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_the_cluster_comes_up_on_machines_of_ones_own_and_goes_down(two_machines):
    folder, head, worker = two_machines
    gcs, dashboard, client, *agents = (free_port("127.0.0.1") for _ in range(5))
    config = cluster("local")
    config["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
    config["auth"] = {"ssh_user": pwd.getpwuid(os.getuid()).pw_name, "ssh_private_key": str(folder / "key")}
    config["setup_commands"] = [c for c in config["setup_commands"] if not re.search(r"-m venv|pip install", c)]
    config["worker_setup_commands"] = []
    # Two machines in one: each Ray is told its address, and ports that other Rays here do not have.
    config["head_start_ray_commands"][1] = config["head_start_ray_commands"][1].replace(
        "--port=6379",
        f"--port={gcs} --node-ip-address={head.address} --object-store-memory=80000000 "
        f"--dashboard-port={dashboard} --ray-client-server-port={client} "
        f"--dashboard-agent-listen-port={agents[0]}",
    )
    config["worker_start_ray_commands"][1] = config["worker_start_ray_commands"][1].replace(
        ":6379",
        f":{gcs} --node-ip-address={worker.address} --object-store-memory=80000000 "
        f"--dashboard-agent-listen-port={agents[1]}",
    )
    (folder / "cluster.yaml").write_text(yaml.safe_dump(config))
    environment = {
        "HOME": str(folder),
        "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(folder),
        "RAY_TMPDIR": str(folder),
        "RAY_UP_enable_autoscaler_v2": "0",
    }

    def ray(*arguments: object, **more: str) -> str:
        ran = subprocess.run(
            [*RAY, *map(str, arguments)],
            env=environment | more,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    token = ray("get-auth-token", "--generate")
    ray("up", "-y", "--no-config-cache", folder / "cluster.yaml")
    try:
        url = f"http://127.0.0.1:{dashboard}"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            asked(f"{url}/api/v0/nodes")
        with pytest.raises(urllib.error.URLError, match="refused"):
            asked(f"http://{head.address}:{dashboard}/api/v0/nodes", token)

        deadline = time.monotonic() + 60
        while (alive := addresses_alive(url, token)) != {head.address, worker.address}:
            assert time.monotonic() < deadline, f"alive: {alive}"
            time.sleep(1)
        assert len(rays(folder)) == 2
        for machine in (head, worker):
            here = machine.home / ".ray" / "auth_token"
            assert here.read_text() == token
            assert here.stat().st_mode & 0o777 == 0o600

        # A person on the head, by `ray exec`, and a job: its Python is the node's, its task runs on the worker.
        assert "Active:" in ray("exec", folder / "cluster.yaml", "ray status")
        job = "import ray, sys; print('python of', sys.prefix); " + (
            "print('task on', ray.get(ray.remote(ray.util.get_node_ip_address).remote()))"
        )
        said = ray("job", "submit", "--address", url, "--", "python", "-c", job, RAY_AUTH_MODE="token")
        assert f"python of {head.home}/earmark/venv" in said
        assert f"task on {worker.address}" in said
    finally:
        ray("down", "-y", folder / "cluster.yaml")
    # `ray down` ends Ray on the head alone. A worker gives up when it has missed the head for long enough: after a
    # minute by default, on these machines five seconds.
    deadline = time.monotonic() + 40
    while running := rays(folder):
        assert time.monotonic() < deadline, running
        time.sleep(1)


def rays(folder: Path) -> list[str]:
    """The processes that are a node's Ray below this folder, on whichever machine."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            commands.append(path.read_text(errors="replace").replace("\0", " "))
    return [command for command in commands if str(folder) in command and "/raylet/raylet" in command]


def addresses_alive(url: str, token: str) -> set[str]:
    """The addresses of the nodes that a cluster counts as alive."""
    nodes = asked(f"{url}/api/v0/nodes", token)["data"]["result"]["result"]
    return {node["node_ip"] for node in nodes if node["state"] == "ALIVE"}
