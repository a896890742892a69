"""`ray up` and `ray down` on two simulated machines."""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.deployment import ROOT, cluster
from support.machines import Machine, free_port, missing, start_two_machines
from support.ray_private import RAY


@pytest.fixture
def two_machines() -> Iterator[tuple[Path, Machine, Machine]]:
    """A folder, and two machines that accept ssh connections with the key in it."""
    if reason := missing():
        pytest.skip(reason)
    with start_two_machines() as machines:
        yield machines


def get_json(url: str, token: str | None = None) -> dict:
    """Return the JSON response of a dashboard."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


@pytest.mark.slow
def test_a_cluster_on_own_machines_starts_and_stops(two_machines):
    folder, head, worker = two_machines
    gcs, dashboard, client, *agents = (free_port("127.0.0.1") for _ in range(5))
    config = cluster("local")
    config["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
    config["auth"] = {"ssh_user": pwd.getpwuid(os.getuid()).pw_name, "ssh_private_key": str(folder / "key")}
    for machine in (head, worker):  # as on an image that was baked, where nothing is left to install
        shutil.copy(ROOT / "requirements-train-cpu.lock", machine.home / "earmark" / "installed.lock")
    # Both machines are on this one, so each Ray needs an address, and ports that no other Ray here uses.
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
            get_json(f"{url}/api/v0/nodes")
        with pytest.raises(urllib.error.URLError, match="refused"):
            get_json(f"http://{head.address}:{dashboard}/api/v0/nodes", token)

        deadline = time.monotonic() + 60
        while (alive := addresses_alive(url, token)) != {head.address, worker.address}:
            assert time.monotonic() < deadline, f"alive: {alive}"
            time.sleep(1)
        assert len(rays(folder)) == 2
        for machine in (head, worker):
            here = machine.home / ".ray" / "auth_token"
            assert here.read_text() == token
            assert here.stat().st_mode & 0o777 == 0o600

        # A command on the head, and a job that uses the Python of the head and runs a task on the worker.
        assert "Active:" in ray("exec", folder / "cluster.yaml", "ray status")
        job = "import ray, sys; print('python of', sys.prefix); " + (
            "print('task on', ray.get(ray.remote(ray.util.get_node_ip_address).remote()))"
        )
        output = ray("job", "submit", "--address", url, "--", "python", "-c", job, RAY_AUTH_MODE="token")
        assert f"python of {head.home}/earmark/venv" in output
        assert f"task on {worker.address}" in output
    finally:
        ray("down", "-y", folder / "cluster.yaml")
    # `ray down` stops Ray only on the head. A worker stops when it cannot reach the head for a minute by default;
    # for five seconds on these machines.
    deadline = time.monotonic() + 40
    while running := rays(folder):
        assert time.monotonic() < deadline, running
        time.sleep(1)


def rays(folder: Path) -> list[str]:
    """Return the command lines of the raylets that run below this folder, on either machine."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            commands.append(path.read_text(errors="replace").replace("\0", " "))
    return [command for command in commands if str(folder) in command and "/raylet/raylet" in command]


def addresses_alive(url: str, token: str) -> set[str]:
    """Return the addresses of the nodes that are alive."""
    nodes = get_json(f"{url}/api/v0/nodes", token)["data"]["result"]["result"]
    return {node["node_ip"] for node in nodes if node["state"] == "ALIVE"}
