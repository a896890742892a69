"""Open the file system of a path or a URI."""

import os

import pyarrow as pa
import pyarrow.fs as pafs

from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.io_errors import first_line
from featurize.place_uri import PlaceUri, encode, has_one_slash, is_uri, parse
from featurize.uri import uri_without_secrets

_AZURE = frozenset({"abfs", "abfss"})
_AZURE_HOST = ".core.windows.net"

# Requests to a bucket that are in flight at once. Arrow's default of 8 threads waits most of the time.
_IO_THREADS = 64


def connect(text: str) -> tuple[pafs.FileSystem, str, str, str, str]:
    """Open the file system of a path or a URI.

    Returns:
        File system, path, scheme, query and authority, as in `StoragePath`.

    Raises:
        FeaturizeError: The text names no place, pyarrow does not support the URI, or its library cannot be loaded.
    """
    if not text.strip():
        raise FeaturizeError("an empty text is no path. Expected a path, or a URI such as s3://bucket/folder.")
    shown = one_line(uri_without_secrets(text))
    if has_one_slash(text):
        raise FeaturizeError(
            f"{shown} has one slash after its scheme. Expected two, as in s3://bucket/folder; for a path on this "
            f"machine, type ./{shown}"
        )
    if not is_uri(text):
        return pafs.LocalFileSystem(), os.path.abspath(text), "", "", ""
    try:
        uri = parse(text)
        if uri.scheme == "file":
            return pafs.LocalFileSystem(), _local_path(uri), "", "", ""
        path, authority = split(uri)
        if not path.strip("/"):
            raise FeaturizeError(f"{shown} names no bucket. Expected {uri.scheme}://bucket/folder.")
        _allow_many_requests()
        filesystem, _ = pafs.FileSystem.from_uri(uri.encoded())
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        if "Unexpected query parameter" in reason:
            reason += ". If ? belongs to the name, type %3F instead"
        raise _unusable(shown, reason) from error
    return filesystem, path, uri.scheme, uri.query, authority


def locate(text: str) -> tuple[str, str, str]:
    """Return the path, scheme and authority of a URI without options, as in `StoragePath`; nothing is opened.

    Raises:
        FeaturizeError: The URI cannot be read.
    """
    try:
        uri = parse(text)
        return split(uri)[0], uri.scheme, split(uri)[1]
    except ValueError as error:
        raise _unusable(one_line(text), str(error)) from error


def split(uri: PlaceUri) -> tuple[str, str]:
    """Return the path as the file system of a URI expects it, and the authority that is not in it."""
    user = uri.user.rstrip("@").partition(":")[0]
    below = f"/{uri.name}" if uri.name else ""
    if uri.scheme not in _AZURE:
        return (f"{uri.host}{below}", "") if uri.is_in_bucket else (below or "/", uri.host)
    if uri.host.endswith(_AZURE_HOST):
        return (f"{user}{below}" if user else uri.name), uri.host
    account = f"{user}@" if user else ""
    if "." in uri.host or ":" in uri.host:  # a server of another operator, such as an emulator
        return uri.name, f"{account}{uri.host}/"
    return f"{uri.host}{below}", account


def join(scheme: str, authority: str, path: str) -> str:
    """Return the URI, without options, whose parts `split` returns."""
    if scheme in _AZURE and authority.endswith(_AZURE_HOST):
        container, slash, name = path.partition("/")
        return f"{scheme}://{container}@{authority}{slash}{encode(name)}"
    return f"{scheme}://{authority}{encode(path)}"


def _allow_many_requests() -> None:
    """Give Arrow enough I/O threads, unless its own variable ARROW_IO_THREADS sets their number.

    This comes before the first file system is made: its number of connections follows from that of the threads.
    """
    if "ARROW_IO_THREADS" not in os.environ and pa.io_thread_count() < _IO_THREADS:
        pa.set_io_thread_count(_IO_THREADS)


def _local_path(uri: PlaceUri) -> str:
    if uri.host not in ("", "localhost") or uri.user:
        raise ValueError("file:// is followed by an absolute path of this machine, as in file:///music")
    if uri.query:
        raise ValueError("a file has no options after ?. In a name, type %3F instead of ?")
    return os.path.abspath(f"/{uri.name}")


def _unusable(shown: str, reason: str) -> FeaturizeError:
    return FeaturizeError(
        f"{shown} cannot be used: {reason}. Expected a path, or a URI such as s3://bucket/folder, "
        "gs://bucket/folder or hdfs://host:port/folder."
    )
