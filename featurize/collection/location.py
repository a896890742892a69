"""Where the file of a track is: below the collection's root, elsewhere on this machine, or in another bucket.

A URI in a table names a scheme, a bucket and a key, nothing else: options and credentials are those of MUSIC
itself, or of the environment.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Collection
from urllib.parse import unquote

from featurize.errors import CollectionLostError, FeaturizeError, Reject
from featurize.place_uri import decode, is_uri
from featurize.storage import StoragePath, is_safe_name

_SCHEMES = frozenset({"s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"})
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]*")
# Where a bucket's name may contain "@", as in container@account.dfs.core.windows.net.
_WITH_ACCOUNT = frozenset({"abfs", "abfss"})


class UriOptionsError(ValueError):
    """A URI with options or credentials, which would choose the server or the account."""


@dataclasses.dataclass(frozen=True)
class BucketFile:
    """A file in a bucket, as a URI names it.

    Attributes:
        scheme: Such as `s3`.
        bucket: Name of the bucket; for `hdfs` host and port, for `abfs` container and account.
        key: Path of the file in the bucket, without percent-encoding.
    """

    scheme: str
    bucket: str
    key: str

    @property
    def store(self) -> str:
        """The bucket as a URI."""
        return f"{self.scheme}://{self.bucket}"


def parse_uri(text: str) -> BucketFile:
    """Parse a URI of a file in a bucket.

    Raises:
        UriOptionsError: It has options or credentials.
        ValueError: It does not name a file in a bucket.
    """
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    account, at, _ = bucket.rpartition("@")
    if "?" in rest or (at and (":" in account or scheme not in _WITH_ACCOUNT)):
        raise UriOptionsError(text)
    key = decode(key)
    if scheme not in _SCHEMES or not _BUCKET.fullmatch(bucket) or not is_safe_name(key):
        raise ValueError(text)
    return BucketFile(scheme, bucket, key)


def parse_file_uri(text: str) -> str | None:
    """Return the absolute path that a `file:///` or `file://localhost/` URI names; None for any other text."""
    match = re.match(r"file://(?:localhost)?(?=/)", text)
    path = unquote(text[match.end() :]) if match else "\0"
    return path if "\0" not in path else None


def own_bucket(music: str) -> str | None:
    """Return the bucket of a collection as a URI, without credentials; None if it is on this machine."""
    scheme, _, rest = music.partition("://")
    if not is_uri(music) or scheme == "file":
        return None
    bucket = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if scheme not in _WITH_ACCOUNT:
        bucket = bucket.rpartition("@")[2]
    return f"{scheme}://{bucket}"


def parse_allowed(names: Collection[str]) -> frozenset[str]:
    """Check the values of `--allow-bucket`: names of buckets, or URIs such as `s3://bucket`.

    Raises:
        FeaturizeError: A value is neither.
    """
    allowed = frozenset(name.rstrip("/") for name in names)
    for name in allowed:
        scheme, separator, bucket = name.rpartition("://")
        if not _BUCKET.fullmatch(bucket) or (separator and scheme not in _SCHEMES):
            raise FeaturizeError(
                f"--allow-bucket {name!r} is not the name of a bucket. Expected a name: --allow-bucket music"
            )
    return allowed


def is_outside(root: StoragePath, path: str) -> bool:
    """Return whether a track's path is a URI of a bucket that is not the root's."""
    if "://" not in path or path.startswith("file://"):
        return False
    file = parse_uri(path)
    return not _is_in_bucket_of(root, file)


def locate(root: StoragePath, path: str, unreachable: Collection[str] = ()) -> StoragePath:
    """Return the file of a track.

    Args:
        root: Root of the collection.
        path: Path below the root; from a table, also an absolute path or a URI. Empty for a name that cannot be
            joined to the root.
        unreachable: Buckets, as URIs, that did not answer when the collection was listed.

    Raises:
        Reject: The path names no file that may be opened, or its bucket is one of `unreachable`.
        CollectionLostError: Its bucket cannot be reached.
    """
    if "://" in path:
        if (local := parse_file_uri(path)) and root.local:
            return StoragePath.of(local)
        try:
            file = parse_uri(path)
        except ValueError as error:
            raise _unsafe() from error
        if file.store in unreachable:
            raise Reject("open", "unreachable", f"{file.store} did not answer when the collection was listed")
        if _is_in_bucket_of(root, file):
            return dataclasses.replace(root, path=file.bucket) / file.key
        try:
            return _open_bucket(file.store, root.query if file.scheme == root.scheme else "") / file.key
        except FeaturizeError as error:
            raise CollectionLostError(str(error)) from error
    if root.local:
        if not path or "\0" in path:
            raise _unsafe()
        return dataclasses.replace(root, path=os.path.join(root.path, path))
    if not is_safe_name(path):
        raise _unsafe()
    return root / path


def _unsafe() -> Reject:
    return Reject(
        "open",
        "unsafe name",
        "joined to the folder, the name leads elsewhere; expected no empty part, no '.' and no '..'",
    )


def _is_in_bucket_of(root: StoragePath, file: BucketFile) -> bool:
    return file.scheme == root.scheme and file.bucket == root.path.split("/")[0]


@functools.lru_cache(maxsize=64)
def _open_bucket(store: str, query: str) -> StoragePath:
    """Return a bucket; cached, because finding the region of an S3 bucket is a request."""
    return StoragePath.of(f"{store}/x{'?' * bool(query)}{query}").parent
