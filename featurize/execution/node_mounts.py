"""Check that every node of a cluster can access the folders of a run."""

import os
from collections.abc import Sequence

from featurize.errors import FeaturizeError
from featurize.execution.ray_tasks import run_on_every_node
from featurize.processes import temporary_name
from featurize.storage import StoragePath


def refuse_unseen(read: Sequence[StoragePath], written: StoragePath | None = None) -> None:
    """Check that every node finds the local paths of this process; URIs need no check.

    Args:
        read: Paths that the nodes read.
        written: Existing folder that the nodes write to. A temporary file in it shows whether a node has the same
            folder, or another disk at the same path.

    Raises:
        FeaturizeError: A node does not find a path, or has another folder there.
    """
    paths = [path.path for path in read if path.local]
    marker = written / temporary_name() if written and written.local else None
    if marker:
        marker.write(b"")
        paths.append(marker.path)
    try:
        results = run_on_every_node(_exist, paths) if paths else {}
    finally:
        if marker:
            marker.remove()
    unseen = [
        f"{node} does not see {os.path.dirname(path) if marker and path == marker.path else path}"
        for node, exist in results.items()
        for path, exists in zip(paths, exist, strict=True)
        if not exists
    ]
    if unseen:
        raise FeaturizeError(
            "not every node of the cluster sees the same folders:\n"
            + "\n".join(f"  - {line}" for line in unseen)
            + "\nMount them on every node at the same path, or give URIs such as s3://bucket/folder."
        )


def _exist(paths: list[str]) -> list[bool]:
    return [os.path.exists(path) for path in paths]
