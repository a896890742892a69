"""Ray nodes on this machine: a head and workers, each with its own address and with token authentication."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.ray_private import RAY


def free_port() -> int:
    """Return a free port outside the range of Ray's workers (10002 to 19999)."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        if not 10000 <= port < 20000:
            return port


class Nodes:
    """A head at 127.0.0.2, which takes no tasks, and the workers that joined it."""

    def __init__(self, scratch: Path, environment: dict[str, str]) -> None:
        self.token = secrets.token_hex(32)
        self.port, dashboard = free_port(), free_port()
        self.address = f"http://127.0.0.2:{dashboard}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.scratch = scratch
        bin_folder = str(Path(sys.executable).parent)
        self.environment = {
            "HOME": str(scratch),
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            **environment,
        }
        head = ["--head", "--port", str(self.port), "--temp-dir", str(scratch), "--num-cpus", "0"]
        head += ["--dashboard-host", "127.0.0.2", "--dashboard-port", str(dashboard)]
        self._start("127.0.0.2", head)
        self._until(lambda: self._answers(dashboard))

    def join(
        self, ip: str, cpus: int = 1, environment: dict[str, str] | None = None, options: tuple[str, ...] = ()
    ) -> None:
        """Start a worker node, with further options of `ray start`."""
        address = ["--address", f"127.0.0.2:{self.port}", "--num-cpus", str(cpus)]
        # A folder of its own, as on another machine: a node that begins with a job unpacks the job's code again,
        # and would take it away from the nodes that are running it.
        address += ["--temp-dir", str(self.scratch / ip.rpartition(".")[2])]
        self._start(ip, [*address, *options], environment or {})

    def _start(self, ip: str, options: list[str], environment: dict[str, str] | None = None) -> None:
        command = [*RAY, "start", "--node-ip-address", ip, "--block", "--object-store-memory", str(100 << 20)]
        # On real machines all agents use the same port; here an agent of another Ray may use it.
        command += ["--dashboard-agent-listen-port", str(free_port())]
        with open(self.scratch / f"{ip}.log", "wb") as log:
            self.processes[ip] = subprocess.Popen(
                [*command, *options],
                env={**self.environment, **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self, port: int) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.2", port), 1).close()
            return True
        return False

    def _until(self, condition, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in self.processes.values()), self.logs()
            time.sleep(0.2)

    def until_joined(self, ip: str) -> None:
        """Wait until a node has started: on a busy machine, two that start at once can fail."""
        log = self.scratch / f"{ip}.log"
        self._until(lambda: "Ray runtime started" in log.read_text(), 120)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self.scratch.glob("*.log"))

    def below(self, ip: str) -> list[psutil.Process]:
        """Return the processes of a node."""
        return psutil.Process(self.processes[ip].pid).children(recursive=True)

    def kill(self, ip: str) -> None:
        """Kill the raylet of a node and all its processes by SIGKILL, as if the machine were lost."""
        for process in self.below(ip):
            if process.name() == "raylet":
                process.kill()
        self._end(ip)

    def announce_end(self, ip: str, seconds: int) -> None:
        """Mark a node as draining, as an autoscaler does when its provider takes a spot machine back."""
        [raylet] = [process for process in self.below(ip) if process.name() == "raylet"]
        [node] = [word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--node_id=")]
        command = [*RAY, "drain-node", "--address", f"127.0.0.2:{self.port}", "--node-id", node]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the provider takes it back"]
        command += ["--deadline-remaining-seconds", str(seconds)]
        subprocess.run(command, env=self.environment, check=True, timeout=120)

    def _end(self, ip: str) -> None:
        ended = self.processes.pop(ip)
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(ended.pid).children(recursive=True), psutil.Process(ended.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        ended.wait()

    def stop(self) -> None:
        for ip in reversed(list(self.processes)):
            self._end(ip)

    def client(self, **more: str) -> dict[str, str]:
        """Return the environment of a user of `earmark submit` who has the token."""
        home = tempfile.mkdtemp(dir=self.scratch)
        environment = {**os.environ, "HOME": home, "RAY_AUTH_TOKEN": self.token, **more}
        environment.pop("RAY_AUTH_MODE", None)  # Earmark must set it
        return environment


@contextlib.contextmanager
def nodes(environment: dict[str, str]) -> Iterator[Nodes]:
    """Start a head, and stop all nodes on exit."""
    # A short path, because the paths of sockets in it are limited to 107 characters.
    with tempfile.TemporaryDirectory(prefix="em", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        started = Nodes(Path(scratch), environment)
        try:
            yield started
        finally:
            started.stop()


def submit(cluster: Nodes, *arguments: object, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `earmark submit`."""
    command = [sys.executable, "-m", "jobs.cli", "submit", "--address", cluster.address, *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment or cluster.client(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 120):
    """Wait until a condition returns a true value while a command runs, and return the value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if process.poll() is not None:
            pytest.fail("\n".join(process.communicate()))
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value


def ended(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    """Wait for a process; return its exit status, stdout and stderr."""
    stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, stdout, stderr


def training_workers(cluster: Nodes) -> list[psutil.Process]:
    """Return the processes of Ray Train's workers on all nodes."""
    found = []
    for process in (process for ip in cluster.processes for process in cluster.below(ip)):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("RayTrainWorker" in word for word in process.cmdline()):
                found.append(process)
    return found
