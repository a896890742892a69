"""Start Ray on this machine for one run: on loopback, with its own token, in a private folder.

By default, Ray listens on every interface, lets its metrics be read without a token, and keeps logs and sockets in
/tmp/ray, in folders that every user of the machine can write to.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featurize.display import one_line
from featurize.errors import EarmarkError, FeaturizeError
from featurize.execution.import_path import SAFE_PATH, job_config, own_path
from featurize.io_errors import describe, first_line

OBJECT_STORE_BYTES = 128 << 20  # small, because only a prediction passes features through Ray
# Read by Ray when it is imported, and by the processes that it starts.
_PRIVATE = {
    "RAY_AUTH_MODE": "token",
    # The name is Ray's; on Linux, too, 0 makes 127.0.0.1 the address of the node. `ray.init(_node_ip_address=)`
    # replaces a loopback address by one that others can reach.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Ray runs one process per core; more threads inside them would only compete for the same cores. Libraries read
# these variables when they load, so they are set in the worker's environment, not in its code.
ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB")
}
# Methods of `ray._private.node.Node` that start what only a cluster needs: the autoscaler, the dashboard, and a
# reader of the workers' logs. They take two seconds of processor time, and one second more at the end of a run.
_OF_A_CLUSTER = ("start_monitor", "start_api_server", "start_log_monitor")
_PREFIX = "earmark-ray-"
_IN_USE = ".in-use"  # locked while the run that made the folder exists
_OF_RAY = "r"  # in the folder: Ray lets everyone write to the folder that it is given
_NEEDED_MB = 10  # on the disk of the folder
_SECONDS_TO_END = 2.0  # for the processes of Ray
# The path of a socket has at most 107 characters; Ray's part of it takes 64.
_LONGEST_PLACE = 107 - 64 - len(f"/{_PREFIX}12345678/r")


def keep_private() -> None:
    """Set the environment variables that keep a Ray of this machine private; Ray must not be imported yet.

    A fresh token, unlike the one that Ray would generate, is not stored in the home directory.
    """
    for name, value in {**_PRIVATE, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
        os.environ.setdefault(name, value)


@contextmanager
def local_ray(workers: int | None, object_store_bytes: int = OBJECT_STORE_BYTES) -> Iterator[None]:
    """Run Ray on this machine until exit.

    Args:
        workers: Number of worker processes; None for one per core of the machine or container.
        object_store_bytes: Memory for what tasks pass to each other.

    Raises:
        FeaturizeError: Ray cannot start; the message names its folder.
    """
    import ray

    with _private_folder() as folder:
        try:
            # The environment is inherited by the workers; this is faster than a runtime environment.
            with _environment(ONE_THREAD | SAFE_PATH | own_path()), _without_processes_of_a_cluster():
                ray.init(
                    address="local",
                    num_cpus=workers,
                    include_dashboard=False,
                    object_store_memory=object_store_bytes,
                    log_to_driver=False,
                    logging_level="ERROR",
                    job_config=job_config(),
                    _temp_dir=str(folder),
                )
        except EarmarkError:  # a signal
            raise
        except Exception as error:  # Ray has no class for a start that fails
            raise _cannot_start(folder.parent.parent, error) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Create a folder that only this user can enter; remove it on exit, with those of runs that were killed."""
    place = _place()
    remove_abandoned()
    with contextlib.ExitStack() as stack:
        try:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            stack.callback(_remove, folder)
            in_use = stack.enter_context(open(folder / _IN_USE, "w"))
        except OSError as error:
            raise _cannot_start(place, error) from error
        fcntl.flock(in_use, fcntl.LOCK_EX)
        yield folder / _OF_RAY


def _place() -> Path:
    """Return the folder in which the folders of Ray are created."""
    place = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return Path(place if len(place) <= _LONGEST_PLACE else "/tmp")


def _cannot_start(place: Path, error: Exception) -> FeaturizeError:
    reason = describe(error) if isinstance(error, OSError) else first_line(error)
    free = None
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(place).free / 1e6
    # Ray waits 30 s for its processes, and does not find out what keeps them.
    if "timed out during startup" in str(error) and free is not None and free > _NEEDED_MB:
        return FeaturizeError(
            "Ray cannot start on this machine: its processes were not ready within 30 s. The load is "
            f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} cores: run again when the machine is less busy."
        )
    room = "" if free is None else f", where {free:.1f} MB are free"
    return FeaturizeError(
        f"Ray cannot start on this machine: {reason.rstrip('.')}. Its sockets and logs are in "
        f"{one_line(str(place))}{room}. Choose a folder that you may write to, with {_NEEDED_MB} MB free: export "
        "RAY_TMPDIR=FOLDER"
    )


def remove_abandoned() -> None:
    """Remove the folders of this user's runs that were killed."""
    for folder in _place().glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, or removed in the meantime
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            with open(folder / _IN_USE) as in_use:
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder; if processes of Ray that are still ending write to it, a later run removes the rest."""
    deadline = time.monotonic() + _SECONDS_TO_END
    while (folder / _OF_RAY).exists():
        if time.monotonic() > deadline:
            return  # with the file by which the later run knows that it is ours
        shutil.rmtree(folder / _OF_RAY, ignore_errors=True)
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _without_processes_of_a_cluster() -> Iterator[None]:
    """Let Ray start without the processes of a cluster; a method that another version of Ray lacks is ignored."""
    from ray._private.node import Node

    methods = {name: getattr(Node, name) for name in _OF_A_CLUSTER if hasattr(Node, name)}
    for name in methods:
        setattr(Node, name, lambda *arguments, **options: None)
    try:
        yield
    finally:
        for name, method in methods.items():
            setattr(Node, name, method)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and restore them on exit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
