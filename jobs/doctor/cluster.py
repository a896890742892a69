"""The Ray cluster that the environment names: does it answer, and does it accept our token."""

import http.client
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from featurize.errors import FeaturizeError
from featurize.execution.ray_tasks import on_cluster, ray_workers, refuse_silent
from featurize.execution.subprocess_task import SubprocessTask
from jobs.doctor.environment import read_small_file
from jobs.doctor.finding import Finding, in_one_line, wait_for

_ATTACH_SECONDS = 30.0
_DASHBOARD_SECONDS = 5.0


def check_cluster() -> Finding:
    """Attach to the Ray cluster that RAY_ADDRESS names, if it names one."""
    try:
        if not on_cluster():
            return Finding("cluster", "ok", "none named; this machine alone")
    except FeaturizeError as error:  # submit has another variable
        return Finding("cluster", "remark", str(error))
    address = os.environ["RAY_ADDRESS"]
    try:
        refuse_silent(address)
    except FeaturizeError as error:
        return Finding("cluster", "broken", str(error))
    with SubprocessTask[str]() as task:
        task.submit("cluster", _cluster_in_words)
        outcome = wait_for(task, _ATTACH_SECONDS)
    if isinstance(outcome, FeaturizeError):
        return Finding("cluster", "broken", str(outcome))
    if isinstance(outcome, Exception):
        found = f"Ray cannot attach to RAY_ADDRESS = {address}: {in_one_line(outcome)}"
        return Finding("cluster", "broken", found, "Does ray status work? This machine alone: unset RAY_ADDRESS")
    return Finding("cluster", "ok", f"{address} answers: {outcome}")


def _cluster_in_words() -> str:
    with ray_workers(None):
        from train.cluster.progress_channel import cluster_in_words

        return cluster_in_words()


def check_dashboard(address: str, token: str) -> Finding:
    """Ask the dashboard that `earmark submit` sends to for its version.

    Args:
        address: as in http://HEAD:8265.
        token: of the cluster; empty where there is none.
    """
    unset = "No cluster: unset RAY_API_SERVER_ADDRESS"
    try:
        request = urllib.request.Request(f"{address.rstrip('/')}/api/version")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=_DASHBOARD_SECONDS) as answer:
            there = json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        found = f"{address} answers with {error.code} {error.reason}"
        if error.code in (401, 403):
            found += f": it {'does not know the token that was sent' if token else 'asks for a token'}"
        advice = (
            f"Put the cluster's token into ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH. {unset}"
        )
    except OSError as error:
        found = f"{address} does not answer: {getattr(error, 'reason', error)}"
        advice = f"Is the cluster up, and does ray dashboard cluster.yaml run? {unset}"
    except (http.client.HTTPException, ValueError, KeyError, TypeError):
        found = f"{address} is no dashboard of Ray's"
        advice = f"Expected http://HEAD:8265. {unset}"
    else:
        return Finding("dashboard", "ok", f"{address} answers: Ray {there}")
    return Finding("dashboard", "broken", found, advice)


def submission_token() -> str:
    """Return the token that `earmark submit` would send: the first one that is there."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (
        os.environ.get("RAY_AUTH_TOKEN")
        or read_small_file(Path(named or Path.home() / ".ray" / "auth_token")).strip()
    )
