"""Which places every node of a cluster can see, as far as this machine can tell."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from featurize.errors import FeaturizeError

_SCHEMES = {"s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"}
# What the kernel calls file systems that lie on other machines.
_NETWORKED = {"nfs", "nfs4", "cifs", "smb3", "lustre", "ceph", "glusterfs", "beegfs", "gpfs", "afs"}
_NETWORKED |= {f"fuse.{name}" for name in ("s3fs", "gcsfuse", "mountpoint-s3", "juicefs", "glusterfs", "rclone")}
_MOUNTS = Path("/proc/self/mounts")


def refuse_hidden(places: Mapping[str, str], shared: Sequence[str]) -> None:
    """Refuse paths that only this machine has.

    Args:
        places: what each place is for (MUSIC, RUN), and where it is: a path or a URI.
        shared: folders that are mounted at the same path on every node.

    Raises:
        FeaturizeError: at least one of them is on this machine alone; the message has all.
    """
    networked = _network_mounts(_MOUNTS.read_text() if _MOUNTS.exists() else "")
    roots = [os.path.abspath(folder) for folder in (*shared, *networked)]
    hidden = {}
    for name, place in places.items():
        scheme, separator, _ = place.partition("://")
        path = os.path.abspath(place)
        if separator:
            if scheme not in _SCHEMES:
                hidden[name] = place
        elif not any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots):
            hidden[name] = path
    if hidden:
        raise FeaturizeError(
            "the nodes of a cluster do not see what lies on this machine:\n"
            + "\n".join(f"  - {name}: {place}" for name, place in hidden.items())
            + "\nGive URIs, as s3://BUCKET/music; aws s3 sync FOLDER s3://BUCKET/music copies a folder there. "
            "If a folder is mounted at the same path on every node, say so: --shared FOLDER"
        )


def _network_mounts(table: str) -> list[str]:
    """Return the mount points of network file systems in the kernel's table of mounts."""
    mounts = []
    for line in table.splitlines():
        _, point, kind, *_ = line.split(" ")
        if kind in _NETWORKED:
            mounts.append(point.replace("\\040", " "))
    return mounts
