"""All checks of this machine, in the order in which `earmark doctor` prints them.

Code that may crash, hang or lack a library is imported late or runs in a separate process, so that the other
checks still run.
"""

import os
import shutil
from collections.abc import Iterator

from jobs.doctor.cluster import check_cluster, check_dashboard, submission_token
from jobs.doctor.environment import (
    SHARED_MEMORY,
    check_cores,
    check_folder,
    check_memory,
    check_shared_memory,
    check_temporary,
    check_versions,
    read_memory,
)
from jobs.doctor.finding import Finding, in_one_line


def check_all() -> Iterator[Finding]:
    """Run all checks and yield each finding as soon as it is available; the complete run takes the longest."""
    yield check_versions("earmark")
    yield check_cores()
    yield check_memory(*read_memory())
    if SHARED_MEMORY.is_dir():
        yield check_shared_memory(shutil.disk_usage(SHARED_MEMORY).free)
    yield check_temporary()
    yield check_folder("folder", os.getcwd, "Change to another folder, or pass a writable folder as --out")
    yield check_cluster()
    if address := os.environ.get("RAY_API_SERVER_ADDRESS"):
        yield check_dashboard(address, submission_token())
    try:
        from jobs.doctor.smoke_test import try_all
    except (ImportError, OSError) as error:  # soundfile raises OSError without libsndfile
        yield Finding("decoders", "broken", in_one_line(error), "Type: pip install --force-reinstall earmark")
        return
    yield from try_all()
