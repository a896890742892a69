"""Check that every node of a cluster can access the paths of a command, as far as this machine can determine."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from featurize.errors import FeaturizeError
from featurize.place_uri import is_uri

_SCHEMES = {"s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"}
# Types of network file systems, as listed in /proc/self/mounts.
_NETWORKED = {"nfs", "nfs4", "cifs", "smb3", "lustre", "ceph", "glusterfs", "beegfs", "gpfs", "afs"}
_NETWORKED |= {f"fuse.{name}" for name in ("s3fs", "gcsfuse", "mountpoint-s3", "juicefs", "glusterfs", "rclone")}
_MOUNTS = Path("/proc/self/mounts")


def refuse_local_paths(paths: Mapping[str, str], shared: Sequence[str]) -> None:
    """Raise an error if the nodes of a cluster cannot access a path.

    Args:
        paths: Paths and URIs, keyed by argument (MUSIC, RUN).
        shared: Folders mounted at the same path on every node.

    Raises:
        FeaturizeError: At least one path exists only on this machine; the message lists all of them.
    """
    networked = _network_mounts(_MOUNTS.read_text() if _MOUNTS.exists() else "")
    roots = [os.path.abspath(folder) for folder in (*shared, *networked)]
    local = {}
    for name, path_or_uri in paths.items():
        path = os.path.abspath(path_or_uri)
        if is_uri(path_or_uri):
            if path_or_uri.partition("://")[0] not in _SCHEMES:
                local[name] = path_or_uri
        elif not any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots):
            local[name] = path
    if local:
        raise FeaturizeError(
            "the nodes of a cluster cannot access paths on this machine:\n"
            + "\n".join(f"  - {name}: {path}" for name, path in local.items())
            + "\nUse URIs, such as s3://BUCKET/music; aws s3 sync FOLDER s3://BUCKET/music copies a folder there. "
            "If a folder is mounted at the same path on every node, add: --shared FOLDER"
        )


def _network_mounts(table: str) -> list[str]:
    """Return the mount points of network file systems.

    Args:
        table: Content of /proc/self/mounts.
    """
    mounts = []
    for line in table.splitlines():
        _, point, kind, *_ = line.split(" ")
        if kind in _NETWORKED:
            mounts.append(point.replace("\\040", " "))
    return mounts
