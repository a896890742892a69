"""Submit a command to a Ray cluster as a job, and follow the log of the job until it ends."""

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

from featurize.display import one_line, visible, without_colors
from jobs.errors import Interrupted, SubmitError
from jobs.remote.code_bundle import pack
from jobs.terminal.signals import raised_signals

_ANSWER_SECONDS = 300  # without an answer of the cluster until `follow` gives up
_STARTING_SECONDS = 60  # for a head that answers but has no agent for jobs yet
_STOP_SECONDS = 30  # for a job to write a checkpoint when it is stopped
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}
# Loggers that report each upload and each closed connection at level INFO.
_VERBOSE_LOGGERS = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_TOKEN_FILE = Path(".ray", "auth_token")


@dataclasses.dataclass(frozen=True)
class Job:
    """A job that a cluster has accepted.

    Attributes:
        client: Ray's `JobSubmissionClient`.
        address: Dashboard of the head, such as http://HEAD:8265.
        id: Submission ID of the job.
    """

    client: Any
    address: str
    id: str

    def commands(self) -> str:
        """Return the commands that follow, query and stop the job, one a line."""
        where = f"--address {self.address} {self.id}"
        token = "export RAY_AUTH_MODE=token; " if os.environ.get("RAY_AUTH_MODE") == "token" else ""
        return "\n".join(
            [
                f"follow    {token}ray job logs --follow {where}",
                f"state     {token}ray job status {where}",
                f"stop      {token}ray job stop {where}",
            ]
        )


def readable_id(command: str, out: str) -> str:
    """Return a unique job ID made of the command, the output folder, the time and a random suffix."""
    name = re.sub(r"[^a-z0-9]+", "-", out.partition("?")[0].rstrip("/").rpartition("/")[2].lower()).strip("-")
    return f"earmark-{command}-{name or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def submit(
    address: str,
    job_id: str,
    command: Sequence[str],
    files: Mapping[str, Path],
    settings: str,
    code: Mapping[str, bytes],
    metadata: Mapping[str, str],
) -> Job:
    """Send a job to a cluster.

    Args:
        address: Dashboard of the head, such as http://HEAD:8265.
        job_id: Job ID, from `readable_id`.
        command: Command line to run there, as typed after `earmark`.
        files: Files to upload, from `jobs.remote.code_bundle.code_files`.
        settings: Settings as YAML, uploaded as `jobs.remote.code_bundle.SETTINGS`.
        code: Further files by their path in the job's working directory, such as that of a user's model.
        metadata: What the dashboard shows of the job, without secrets.

    Raises:
        SubmitError: The cluster does not answer, rejects the token or rejects the job.
    """
    if not re.match(r"https?://[^/]+", address):
        raise SubmitError(f"--address {address}: expected the dashboard of the head, such as http://HEAD:8265")
    _use_token()
    with _plain_errors(address), tempfile.TemporaryDirectory() as folder:
        from ray.job_submission import JobSubmissionClient

        pack(files, settings, code, Path(folder))
        client = JobSubmissionClient(address)
        for name in _VERBOSE_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        send = partial(
            client.submit_job,
            entrypoint=shlex.join(["python", "-m", "jobs.cli", *command]),
            submission_id=job_id,
            runtime_env={"working_dir": folder, "env_vars": _ENVIRONMENT},
            metadata=dict(metadata),
        )
        _send_when_ready(send)
    return Job(client, address, job_id)


def _send_when_ready(send: Callable[[], object]) -> None:
    """Send a job, and retry while the head answers but does not accept jobs yet.

    Args:
        send: Function that sends the job.

    Raises:
        RuntimeError: The head rejects the job, or accepts no jobs for `_STARTING_SECONDS`.
    """
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
    """Write the log of a job to standard output until the job ends.

    Args:
        job: Job, from `submit`.
        stop_on_interrupt: Whether Ctrl-C or SIGTERM stops the job; otherwise the job continues.
        remark: Function that prints a message about the job.

    Returns:
        Exit status of the job, or 128 + signal after Ctrl-C or SIGTERM.

    Raises:
        SubmitError: The cluster has not answered for `_ANSWER_SECONDS`.
    """
    log = _LogFollower()
    try:
        with raised_signals():
            info = log.follow(job)
    except Interrupted as interrupted:
        if not stop_on_interrupt:
            remark(f"The job continues without this command.\n{job.commands()}")
            return 128 + interrupted.signum
        remark("Stopping the job.")
        with _plain_errors(job.address):
            job.client.stop_job(job.id)
            log.follow(job)
        remark("The job has stopped. Finished work is kept: submit the same command again to continue.")
        return 128 + interrupted.signum
    if info.status == "SUCCEEDED":
        return 0
    code: int | None = info.driver_exit_code
    if code is None:  # the job did not start, or its node was lost
        remark(f"earmark: the job has {info.status.lower()}: {one_line(info.message)}")
        return 1
    if info.status == "STOPPED":
        remark("The job was stopped. Finished work is kept: submit the same command again to continue.")
    return code if code > 0 else 128 - code


class _LogFollower:
    """Writes the log of a job to standard output, each part once, across lost connections."""

    def __init__(self) -> None:
        self._written = 0  # characters

    def follow(self, job: Job) -> Any:
        """Write new parts of the log until the job ends, and return Ray's `JobDetails` of it."""
        last_answer = time.monotonic()
        while True:
            try:
                asyncio.run(self._write(job))
                info = job.client.get_job_info(job.id)
                last_answer = time.monotonic()
                if info.status.is_terminal():
                    return info
            except (OSError, RuntimeError) as error:  # aiohttp's connection errors are OSErrors
                if time.monotonic() - last_answer > _ANSWER_SECONDS:
                    minutes = _ANSWER_SECONDS // 60
                    raise SubmitError(
                        f"{job.address} has not answered for {minutes} minutes ({one_line(error)}). The job may "
                        f"still be running there.\n{job.commands()}"
                    ) from error
            time.sleep(1)

    async def _write(self, job: Job) -> None:
        position = 0
        async for text in job.client.tail_job_logs(job.id):
            # Each connection sends the log from its first character.
            sys.stdout.write(visible(without_colors(text[max(self._written - position, 0) :])))
            sys.stdout.flush()
            position += len(text)
            self._written = max(self._written, position)


def _use_token() -> None:
    """Make Ray's client send the token if one exists: by default it sends none."""
    in_environment = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if in_environment or (Path.home() / _TOKEN_FILE).is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextmanager
def _plain_errors(address: str) -> Iterator[None]:
    """Raise Ray's and network errors as a `SubmitError` with the reason and what to do."""
    import ray.exceptions

    try:
        yield
    except SubmitError:
        raise
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        text = str(error).strip()
        if "401" in text or "no token was found" in text or "Authentication required" in text:
            reason = (
                "it requires a token, and none was sent. Put the token of the cluster into ~/.ray/auth_token, or "
                "set RAY_AUTH_TOKEN_PATH to the path of its file"
            )
        elif "403" in text or "invalid or incorrect" in text:
            reason = (
                "it rejects the token that was sent. Is it the token of another cluster? It is read from "
                "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token; the first one that exists is used"
            )
        elif isinstance(error, OSError):
            reason = "nothing answers there. Is the cluster up, and is ray dashboard cluster.yaml running?"
        else:
            reason = one_line(text.splitlines()[0]) if text else type(error).__name__
        raise SubmitError(f"the cluster at {address} did not accept the job: {reason}") from error
