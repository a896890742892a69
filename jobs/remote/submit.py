"""A verb run on a Ray cluster: sent there as a job, and followed until it ends."""

import asyncio
import dataclasses
import logging
import os
import re
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jobs.errors import Interrupted, SubmitError
from jobs.remote.code_bundle import pack
from jobs.terminal.signals import raised_signals

_PATIENCE_SECONDS = 300  # without an answer from the cluster before the job is left alone
_STARTING_SECONDS = 60  # that a head may take from its first answer to its first job
_STOP_SECONDS = 30  # that a job has to write a checkpoint when it is stopped
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}
# Loggers that tell of packing, of sending and of the end of connections.
_TALKERS = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_TOKEN_FILE = Path(".ray", "auth_token")


@dataclasses.dataclass(frozen=True)
class Job:
    """A job that a cluster has taken."""

    client: Any
    address: str
    id: str

    def commands(self) -> str:
        """Say what to type to come back to it."""
        where = f"--address {self.address} {self.id}"
        token = "export RAY_AUTH_MODE=token; " if os.environ.get("RAY_AUTH_MODE") == "token" else ""
        return "\n".join(
            [
                f"follow    {token}ray job logs --follow {where}",
                f"state     {token}ray job status {where}",
                f"stop      {token}ray job stop {where}",
            ]
        )


def readable_id(verb: str, out: str) -> str:
    """Make an id that says what the job is, and is no other's."""
    name = re.sub(r"[^a-z0-9]+", "-", out.partition("?")[0].rstrip("/").rpartition("/")[2].lower()).strip("-")
    return f"earmark-{verb}-{name or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def submit(address: str, job_id: str, command: Sequence[str], files: Mapping[str, Path], settings: str) -> Job:
    """Send a job to a cluster.

    Args:
        address: of the head's dashboard, as in http://HEAD:8265.
        job_id: from `readable_id`.
        command: the verb and its arguments, as they would be typed after `earmark`.
        files: from `jobs.remote.code_bundle.code_files`.
        settings: YAML, for `jobs.remote.code_bundle.SETTINGS` in the folder that the job runs in.

    Raises:
        SubmitError: there is no cluster, it asks for another token, or it does not take the job.
    """
    if not re.match(r"https?://[^/]+", address):
        raise SubmitError(f"--address {address}: expected the head's dashboard, as in http://HEAD:8265")
    _use_token()
    with _explained(address), tempfile.TemporaryDirectory() as folder:
        from ray.job_submission import JobSubmissionClient

        pack(files, settings, Path(folder))
        client = JobSubmissionClient(address)
        for talker in _TALKERS:
            logging.getLogger(talker).setLevel(logging.WARNING)
        send = partial(
            client.submit_job,
            entrypoint=shlex.join(["python", "-m", "jobs.cli", *command]),
            submission_id=job_id,
            runtime_env={"working_dir": folder, "env_vars": _ENVIRONMENT},
        )
        _until_ready(send)
    return Job(client, address, job_id)


def _until_ready(send: Callable[[], object]) -> None:
    """Send a job, again and again to a head that answers already and takes no jobs yet."""
    deadline = time.monotonic() + _STARTING_SECONDS
    while True:
        try:
            send()
            return
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(2)


def follow(job: Job, stop_on_interrupt: bool, remark: Callable[[str], None]) -> int:
    """Write a job's log to standard output until the job ends.

    Args:
        job: from `submit`.
        stop_on_interrupt: stop the job at Ctrl-C or SIGTERM; else it goes on.
        remark: is told what happens beside the log.

    Returns:
        the job's own exit status; that of a process that the signal has ended, where one has come.

    Raises:
        SubmitError: the cluster has not answered for some minutes.
    """
    log = _Log()
    try:
        with raised_signals():
            info = log.follow(job)
    except Interrupted as interrupted:
        if not stop_on_interrupt:
            remark(f"The job goes on without this command.\n{job.commands()}")
            return 128 + interrupted.signum
        remark("Stopping the job.")
        with _explained(job.address):
            job.client.stop_job(job.id)
            log.follow(job)
        remark("The job has stopped. What was finished is kept: the same submit continues from there.")
        return 128 + interrupted.signum
    if info.status == "SUCCEEDED":
        return 0
    code: int | None = info.driver_exit_code
    if code is None:  # it never came to run, or its node is gone
        remark(f"earmark: the job has {info.status.lower()}: {info.message}")
        return 1
    if info.status == "STOPPED":
        remark("The job was stopped. What was finished is kept: the same submit continues from there.")
    return code if code > 0 else 128 - code


class _Log:
    """How much of a job's log has been written."""

    def __init__(self) -> None:
        self._written = 0

    def follow(self, job: Job) -> Any:
        """Write what comes until the job ends, over lost connections, and return what Ray knows of it then."""
        answered = time.monotonic()
        while True:
            try:
                asyncio.run(self._write(job))
                info = job.client.get_job_info(job.id)
                answered = time.monotonic()
                if info.status.is_terminal():
                    return info
            except (
                OSError,
                RuntimeError,
            ) as error:  # as of a network that sleeps; aiohttp's are of the first kind
                if time.monotonic() - answered > _PATIENCE_SECONDS:
                    raise SubmitError(
                        f"{job.address} has not answered for {_PATIENCE_SECONDS // 60} minutes ({error}). The job "
                        f"may still be at work there.\n{job.commands()}"
                    ) from error
            time.sleep(1)

    async def _write(self, job: Job) -> None:
        position = 0
        async for text in job.client.tail_job_logs(job.id):
            # A new connection begins at the beginning.
            sys.stdout.write(text[max(self._written - position, 0) :])
            sys.stdout.flush()
            position += len(text)
            self._written = max(self._written, position)


def _use_token() -> None:
    """Let Ray's client send a token where there is one; it does not by itself."""
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or (Path.home() / _TOKEN_FILE).is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Say in a sentence why a cluster does not take a request."""
    import ray.exceptions

    try:
        yield
    except SubmitError:
        raise
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        text = str(error).strip()
        if "401" in text or "no token was found" in text or "Authentication required" in text:
            words = (
                "it asks for a token, and none was sent. Put the cluster's token into ~/.ray/auth_token, or name "
                "its file in RAY_AUTH_TOKEN_PATH"
            )
        elif "403" in text or "invalid or incorrect" in text:
            words = (
                "it does not know the token that was sent. Is it another cluster's? It came from RAY_AUTH_TOKEN, "
                "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, the first of them that is there"
            )
        elif isinstance(error, OSError):
            words = "nothing answers there. Is the cluster up, and does ray dashboard cluster.yaml run?"
        else:
            words = text.splitlines()[0] if text else type(error).__name__
        raise SubmitError(f"the cluster at {address} took no job: {words}") from error
