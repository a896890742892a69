"""Check that the Ray cluster of RAY_ADDRESS and the dashboard of RAY_API_SERVER_ADDRESS answer."""

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
    """Connect to the Ray cluster of RAY_ADDRESS, if it is set."""
    try:
        if not on_cluster():
            return Finding("cluster", "ok", "RAY_ADDRESS is not set: this machine only")
    except FeaturizeError as error:  # an address for `earmark submit`
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
        found = f"Ray cannot connect to RAY_ADDRESS = {address}: {in_one_line(outcome)}"
        advice = "Does ray status work? To use this machine only: unset RAY_ADDRESS"
        return Finding("cluster", "broken", found, advice)
    return Finding("cluster", "ok", f"{address} answers: {outcome}")


def _cluster_in_words() -> str:
    with ray_workers(None):
        from train.cluster.progress_channel import describe_cluster

        return describe_cluster()


def check_dashboard(address: str, token: str) -> Finding:
    """Request the Ray version of the dashboard that `earmark submit` uses.

    Args:
        address: Address of the dashboard, such as http://HEAD:8265.
        token: Token of the cluster; empty for none.
    """
    unset = "If you use no cluster: unset RAY_API_SERVER_ADDRESS"
    try:
        request = urllib.request.Request(f"{address.rstrip('/')}/api/version")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=_DASHBOARD_SECONDS) as answer:
            ray_version = json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        found = f"{address} answers with {error.code} {error.reason}"
        if error.code in (401, 403):
            found += f": it {'rejects the token that was sent' if token else 'requires a token'}"
        advice = (
            "Put the token of the cluster into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH to the path of its "
            f"file. {unset}"
        )
    except OSError as error:
        found = f"{address} does not answer: {getattr(error, 'reason', error)}"
        advice = f"Is the cluster up, and is ray dashboard cluster.yaml running? {unset}"
    except (http.client.HTTPException, ValueError, KeyError, TypeError):
        found = f"{address} is not a Ray dashboard"
        advice = f"Expected http://HEAD:8265. {unset}"
    else:
        return Finding("dashboard", "ok", f"{address} answers: Ray {ray_version}")
    return Finding("dashboard", "broken", found, advice)


def submission_token() -> str:
    """Return the token that `earmark submit` would send, or an empty string."""
    file = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (
        os.environ.get("RAY_AUTH_TOKEN")
        or read_small_file(Path(file or Path.home() / ".ray" / "auth_token")).strip()
    )
