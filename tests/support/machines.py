"""Two simulated machines on loopback addresses of this machine, with an ssh server each."""

import contextlib
import errno
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Machine:
    """An sshd with its own home folder and process namespace, on a loopback address of this machine."""

    address: str
    home: Path
    process: subprocess.Popen


def own_processes() -> list[str]:
    """Return a command prefix that runs a command in a new process namespace, which ends with the command.

    `ray stop` stops every Ray that it finds, and here it must find only the one of its own machine.
    """
    user = [] if os.getuid() == 0 else ["--user", "--map-current-user"]
    return ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]


def missing() -> str:
    """Return the reason why two machines cannot be simulated here; empty if they can."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    lacking = [name for name in ("ssh", "ssh-keygen", "rsync", "unshare") if not shutil.which(name)]
    if not sshd or lacking:
        return f"not installed: {', '.join([*lacking, *([] if sshd else ['sshd'])])}"
    if subprocess.run([*own_processes(), "true"], capture_output=True, check=False).returncode:
        return "process namespaces are not permitted here"
    try:
        free_port("127.0.0.3")
    except OSError:
        return "127.0.0.3 is not an address of this machine"
    return ""


def free_port(address: str) -> int:
    """Return a free port outside the ranges of Ray's workers (10002 to 19999) and of the kernel."""
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


@contextlib.contextmanager
def start_two_machines() -> Iterator[tuple[Path, Machine, Machine]]:
    """Yield a folder, and two machines that accept ssh connections with the key in it."""
    with tempfile.TemporaryDirectory(prefix="earmark-") as name, contextlib.ExitStack() as cleanup:
        folder = Path(name)  # not tmp_path: Ray's sockets below it must have names of at most 107 characters
        port = free_port("127.0.0.2")
        for key in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        # Ray has no field for the port of ssh, and ssh looks for its config and for Ray's copy of the key in the
        # user's real home: this script passes both.
        (folder / "bin").mkdir()
        (folder / "bin" / "ssh").write_text(
            f'#!/bin/sh\nexec {shutil.which("ssh")} -F none -p {port} -i "$HOME/ray_bootstrap_key.pem" "$@"\n'
        )
        (folder / "bin" / "ssh").chmod(0o755)
        machines = [start_machine(folder, address, port, cleanup) for address in ("127.0.0.2", "127.0.0.3")]
        yield folder, *machines


def start_machine(folder: Path, address: str, port: int, cleanup: contextlib.ExitStack) -> Machine:
    """Start the sshd of a machine and wait until it accepts connections."""
    home = folder / address
    (home / "earmark").mkdir(parents=True)
    # In place of the environment that `setup_commands` would install.
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
    # As root, sshd needs an empty folder in /run; the mount is visible only in this namespace.
    own_run = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && " if os.getuid() == 0 else ""
    command = [*own_processes(), "sh", "-c", f"{own_run}exec {sshd} -D -e -f {home}/sshd_config"]
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
