"""Files and folders on this machine or behind any `pyarrow.fs` URI (`s3://`, `gs://`, `hdfs://`).

On this machine Python's own functions are used: they know file names that are not UTF-8, and they tell the
kinds of errors apart. Whatever is written appears whole under its name or not at all.
"""

import dataclasses
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from featurize.errors import FeaturizeError

_TEMPORARY = ".tmp"
# These show an object only when all of it has arrived; elsewhere a file is renamed when it is whole.
_WHOLE_BY_NATURE = frozenset({"s3", "gcs", "abfs"})
_WORDS = {
    "ACCESS_DENIED": "access denied; check the credentials (AWS_ACCESS_KEY_ID and its kin, or AWS_PROFILE)",
    "INVALID_ACCESS_KEY_ID": "the access key is not known there; check AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key does not fit the access key; check AWS_SECRET_ACCESS_KEY",
    "EXPIRED_TOKEN": "the session token has expired; get new credentials",
    "NO_SUCH_BUCKET": "there is no such bucket",
    "NETWORK_CONNECTION": "the endpoint does not answer; check the network and ?endpoint_override=",
}


@dataclasses.dataclass(frozen=True)
class StoragePath:
    """A file or a folder, which may or may not exist.

    Attributes:
        filesystem: where it lies.
        path: absolute on this machine; bucket and key, or the like, elsewhere.
        scheme: as in `s3`; empty on this machine.
        query: what followed the `?` of the URI.
    """

    filesystem: pafs.FileSystem
    path: str
    scheme: str = ""
    query: str = ""

    @classmethod
    def of(cls, text: "str | os.PathLike[str] | StoragePath") -> "StoragePath":
        """Read a path or a URI; credentials come from the usual variables, an endpoint from `?endpoint_override=`.

        Raises:
            FeaturizeError: the URI is of no kind that pyarrow knows, or its library cannot be loaded.
        """
        if isinstance(text, StoragePath):
            return text
        text = os.fspath(text)
        scheme, separator, rest = text.partition("://")
        if not separator:
            return cls(pafs.LocalFileSystem(), os.path.abspath(text))
        try:
            filesystem, path = pafs.FileSystem.from_uri(text)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FeaturizeError(
                f"{text} cannot be used: {str(error).splitlines()[0]}. Expected a path, or a URI such as "
                "s3://bucket/folder, gs://bucket/folder or hdfs://host:port/folder."
            ) from error
        if filesystem.type_name == "local":
            return cls(filesystem, path)
        if not path.strip("/"):
            raise FeaturizeError(f"{text} names no bucket. Expected {scheme}://bucket/folder.")
        _, _, query = rest.partition("?")
        return cls(filesystem, path.rstrip("/"), scheme, query)

    def __truediv__(self, name: str) -> "StoragePath":
        """Return a place below this one; a name that is itself a URI or an absolute path stays what it is."""
        if "://" in name or os.path.isabs(name):
            return StoragePath.of(name)
        return dataclasses.replace(self, path=f"{self.path.rstrip('/')}/{name}")

    def __str__(self) -> str:
        if not self.scheme:
            return self.path
        return f"{self.scheme}://{self.path}" + (f"?{self.query}" if self.query else "")

    @property
    def local(self) -> Path | None:
        """The path on this machine, None if it lies elsewhere."""
        return None if self.scheme else Path(self.path)

    @property
    def parent(self) -> "StoragePath":
        """The folder that holds it."""
        return dataclasses.replace(self, path=os.path.dirname(self.path))

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on, in small letters."""
        return os.path.splitext(self.path)[1].lower()

    @property
    def arrow(self) -> dict[str, Any]:
        """The keywords by which `pyarrow.parquet` takes a place."""
        return {"filesystem": self.filesystem}

    def is_folder(self) -> bool:
        """Say whether a folder is there, on an object store whether any object lies below it."""
        return self._is(pafs.FileType.Directory)

    def is_file(self) -> bool:
        """Say whether a file is there."""
        return self._is(pafs.FileType.File)

    def _is(self, kind: pafs.FileType) -> bool:
        if self.scheme:
            return bool(self.filesystem.get_file_info(self.path).type == kind)
        return os.path.isfile(self.path) if kind == pafs.FileType.File else os.path.isdir(self.path)

    def read(self) -> bytes:
        """Return all bytes of a file; FileNotFoundError or another OSError where that cannot be done."""
        if not self.scheme:
            return Path(self.path).read_bytes()
        with self.filesystem.open_input_stream(self.path) as file:
            content: bytes = file.read()
        return content

    def write(self, content: bytes | pa.Buffer) -> None:
        """Write a file whole: under its name there is all of it or nothing, even after a power cut."""
        if not self.scheme:
            write_whole(Path(self.path), content)
        elif self.filesystem.type_name in _WHOLE_BY_NATURE:
            with self.filesystem.open_output_stream(self.path) as file:
                file.write(content)
        else:
            temporary = f"{os.path.dirname(self.path)}/{_temporary_name(os.path.basename(self.path))}"
            self.filesystem.create_dir(os.path.dirname(self.path), recursive=True)
            with self.filesystem.open_output_stream(temporary) as file:
                file.write(content)
            self.filesystem.move(temporary, self.path)

    def remove(self) -> None:
        """Remove a file if it is there."""
        if not self.scheme:
            Path(self.path).unlink(missing_ok=True)
        elif self.is_file():
            self.filesystem.delete_file(self.path)

    def remove_folder(self) -> None:
        """Remove a folder and all below it, if it is there."""
        if self.scheme:
            if self.is_folder():
                self.filesystem.delete_dir(self.path)
        else:
            shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def at_hand(self) -> Iterator[Path]:
        """Give the path of a file or folder on this machine: its own, or that of a copy, which goes afterwards.

        Raises:
            OSError: it is elsewhere and cannot be read.
        """
        if not self.scheme:
            yield Path(self.path)
            return
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch, os.path.basename(self.path))
            if self.is_file():
                copy.write_bytes(self.read())
            else:
                self.copy_to(copy)
            yield copy

    def copy_to(self, folder: Path) -> None:
        """Copy all files below a folder to one on this machine."""
        for name, _ in self.files():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((self / name).read())

    def files(self) -> Iterator[tuple[str, int]]:
        """List the files at any depth below a folder, hidden ones too: path below it with `/`, size in bytes.

        A folder that is not there has none.
        """
        if self.scheme:
            selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=True)
            for info in self.filesystem.get_file_info(selector):
                if info.type == pafs.FileType.File:
                    yield info.path[len(self.path) + 1 :], info.size
            return
        folders = [""]
        while folders:
            below = folders.pop()
            try:
                entries = os.scandir(os.path.join(self.path, below))
            except FileNotFoundError:
                continue
            with entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{below}{entry.name}/")
                    elif entry.is_file():
                        try:
                            size = entry.stat().st_size
                        except FileNotFoundError:  # a temporary file, which now has its final name
                            continue
                        yield below + entry.name, size

    def remove_leftovers(self) -> None:
        """Remove temporary files that an earlier, killed run left below a folder."""
        if self.filesystem.type_name in _WHOLE_BY_NATURE:
            return
        for name, _ in self.files():
            if os.path.basename(name).startswith(".") and name.endswith(_TEMPORARY):
                (self / name).remove()


def write_whole(path: Path, content: bytes | pa.Buffer) -> None:
    """Write a file on this machine so that under its final name it is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def describe(error: OSError) -> str:
    """Say in plain words what stands in the way of a file."""
    text = str(error)
    for code, words in _WORDS.items():
        if code in text:
            return words
    words = error.strerror or text.splitlines()[0]
    # Of a rename the second one is what the caller asked for, the first a temporary name.
    name = error.filename2 or error.filename
    return f"{words} ({name})" if name else words


def _temporary_name(name: str) -> str:
    return f".{name}.{uuid.uuid4().hex}{_TEMPORARY}"
