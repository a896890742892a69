"""A lease on a folder in a bucket: a second job there learns that a first one is at work.

A bucket has no locks. A job writes an object, `.lease-ID`, into the folder, writes it again every few
seconds with a higher count, and removes it at its end. A lease whose count does not change any more is that of a
dead job; no clocks are compared. If two jobs start at once, at least one of them sees the other's lease, because
listings are consistent; if both do, the one whose lease has the smaller name goes on.

Only the operations of `pyarrow.fs` are needed, so a lease has the credentials, the region and the endpoint of all
other files of the folder, in every kind of store. A write that fails if the object exists (If-None-Match) needs
another library: obstore has it for S3, GCS and Azure, but reads no AWS profiles; boto3 has it for S3 only.

A lease is a hint. The names of shards and checkpoints keep two jobs correct that work in one folder all the same.
"""

import dataclasses
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pydantic

from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.io_errors import describe
from featurize.processes import is_gone, this_process
from featurize.storage import StoragePath

_PREFIX = ".lease-"
# All leases have the same size: reading an object that is replaced by one of another size fails.
_BYTES = 1000
_READS = 3  # of a lease that may be replaced or removed meanwhile
_SECONDS_BETWEEN_POLLS = 0.5
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Timing:
    """Durations in seconds.

    Attributes:
        renew: Between two renewals.
        expire: Without a renewal, until a lease is taken for that of a dead job.
        settle: Until a job that has begun to start has started, or is taken for dead.
    """

    renew: float = 20.0
    expire: float = 120.0
    settle: float = 15.0


_TIMING = Timing()


class _Lease(pydantic.BaseModel):
    """Content of a lease.

    Attributes:
        holder: Process, by `featurize.processes.this_process`.
        who: The process in words.
        since: When it started to wait for the lease, by its own clock; for people only.
        holds: Whether it works in the folder; before, it is starting.
        renewals: Number of renewals.
    """

    holder: str = pydantic.Field(max_length=300)
    who: str = pydantic.Field(max_length=300)
    since: datetime
    holds: bool = False
    renewals: int = 0

    def __str__(self) -> str:
        return f"{one_line(self.who)}, since {self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


@contextmanager
def lease_of(folder: StoragePath, timing: Timing = _TIMING) -> Iterator[None]:
    """Hold the lease of a remote folder for this process, and renew it in a thread.

    If the store refuses the lease, the job goes on without one, with a warning in the log.

    Args:
        folder: Remote folder, which need not exist.
        timing: Durations.

    Raises:
        FeaturizeError: Another job holds the lease, and has renewed it while it was watched.
    """
    name = f"{_PREFIX}{uuid.uuid4().hex}"
    lease = _Lease(
        holder=this_process(), who=f"process {os.getpid()} on {platform.node()}", since=datetime.now(UTC)
    )
    written = holding = False
    try:
        try:
            _write(folder, name, lease)
            written = True
            _wait_for_turn(folder, name, lease, timing)
            lease.holds = True
            _write(folder, name, lease)
            holding = True
        except OSError as error:
            _log.warning("%s has no lease (%s): a second job there would not be noticed.", folder, describe(error))
        if not holding:
            yield
            return
        ended = threading.Event()
        renewal = threading.Thread(target=_renew, args=(folder, name, lease, timing, ended), daemon=True)
        renewal.start()
        try:
            yield
        finally:
            ended.set()
            renewal.join(timing.renew)
    finally:
        if written:
            _remove(folder, name)


def _write(folder: StoragePath, name: str, lease: _Lease) -> None:
    (folder / name).write(lease.model_dump_json().encode().ljust(_BYTES))


def _read(folder: StoragePath, name: str) -> _Lease | None:
    """Return a lease; None if it has been removed, or is another program's file."""
    attempt = 1
    while True:
        try:
            return _Lease.model_validate_json((folder / name).read_at_most(_BYTES))
        except (FileNotFoundError, pydantic.ValidationError):
            return None
        except OSError:  # it was replaced or removed while it was read
            if attempt == _READS:
                raise
        attempt += 1
        time.sleep(_SECONDS_BETWEEN_POLLS)


def _leases(folder: StoragePath, own: str) -> dict[str, _Lease]:
    """Return the leases of other jobs by name, without those whose process is known to be gone."""
    found = {}
    for name in folder.names():
        if not name.startswith(_PREFIX) or name == own:
            continue
        lease = _read(folder, name)
        if lease and is_gone(lease.holder):
            _remove(folder, name)
        elif lease:
            found[name] = lease
    return found


def _remove(folder: StoragePath, name: str) -> None:
    with suppress(OSError):  # such as that of another job, which removes it as well
        (folder / name).remove()


def _wait_for_turn(folder: StoragePath, own: str, lease: _Lease, timing: Timing) -> None:
    """Return when no other job holds the lease or starts; leases of dead jobs are removed.

    This job gives way, and removes its own lease meanwhile, to a holder, and to a starting job whose lease has a
    smaller name. A starting job whose lease has a greater name may have listed the folder before this job's lease
    was there, so it is given the time to hold the lease or to give way.

    Raises:
        FeaturizeError: Another job holds the lease, and is seen to live.
    """
    first_seen: dict[str, tuple[_Lease, float]] = {}
    gives_way = False
    while True:
        others = _leases(folder, own)
        if not others and not gives_way:
            return
        if not others:
            _write(folder, own, lease)
            gives_way = False
            continue
        for name, other in others.items():
            now = time.monotonic()
            before, since = first_seen.setdefault(name, (other, now))
            if other != before and other.holds:
                raise FeaturizeError(
                    f"another run ({other}) is already running in {folder}. Wait for it, or give another --out."
                )
            if now - since > (timing.expire if other.holds else timing.settle):
                _remove(folder, name)
            elif other.holds and since == now:
                _log.info(
                    "Another run (%s) has a lease on %s. Waiting whether it renews it: at most %g seconds.",
                    other,
                    folder,
                    timing.expire,
                )
        if not gives_way and any(other.holds or name < own for name, other in others.items()):
            _remove(folder, own)
            gives_way = True
        time.sleep(_SECONDS_BETWEEN_POLLS)


def _renew(folder: StoragePath, name: str, lease: _Lease, timing: Timing, ended: threading.Event) -> None:
    """Renew a lease until the job ends, or until another job has taken it."""
    failed = False
    while not ended.wait(timing.renew):
        try:
            if not (folder / name).is_file():
                for other in _leases(folder, name).values():
                    if other.holds:
                        _log.warning(
                            "The lease of this job on %s has expired, and another run (%s) works there now. Their "
                            "shards are the same, but they disturb each other's training: stop one of them.",
                            folder,
                            other,
                        )
                        return
            lease.renewals += 1
            _write(folder, name, lease)
            failed = False
        except OSError as error:
            if not failed:
                _log.warning("The lease on %s could not be renewed (%s).", folder, describe(error))
            failed = True
