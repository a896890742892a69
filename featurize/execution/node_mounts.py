"""On a cluster: whether every node sees the folders that a run is given."""

import os
import uuid
from collections.abc import Sequence

from featurize.errors import FeaturizeError
from featurize.execution.ray_tasks import run_on_every_node
from featurize.storage import StoragePath


def refuse_unseen(read: Sequence[StoragePath], written: StoragePath | None = None) -> None:
    """Compare what the nodes see with what this process sees; places behind URIs are the same for all.

    Args:
        read: what the nodes shall read.
        written: a folder that they shall write to; exists already.

    Raises:
        FeaturizeError: a node sees not all of it, or another disk under the folder's name.
    """
    paths = [place.path for place in read if place.local]
    marker = written / f".{uuid.uuid4().hex}.tmp" if written and written.local else None
    if marker:
        marker.write(b"")
        paths.append(marker.path)
    try:
        seen = run_on_every_node(_seen, paths) if paths else {}
    finally:
        if marker:
            marker.remove()
    unseen = [
        f"{node} does not see {os.path.dirname(path) if marker and path == marker.path else path}"
        for node, found in seen.items()
        for path, there in zip(paths, found, strict=True)
        if not there
    ]
    if unseen:
        raise FeaturizeError(
            "not every node of the cluster sees the same folders:\n"
            + "\n".join(f"  - {line}" for line in unseen)
            + "\nMount them on every node at the same path, or give URIs such as s3://bucket/folder."
        )


def _seen(paths: list[str]) -> list[bool]:
    return [os.path.exists(path) for path in paths]
