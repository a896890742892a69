"""Local and remote files and folders; remote ones by any `pyarrow.fs` URI (`s3://`, `gs://`, `hdfs://`).

All writes are atomic. `local_files` has the functions for files of this machine, `io_errors` the errors of both.
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs

from featurize.display import one_line, shell_word
from featurize.errors import UnsafeNameError
from featurize.filesystems import connect, join, locate
from featurize.io_errors import describe
from featurize.local_files import list_files, open_regular, write_whole
from featurize.names import is_safe_name, refuse_undecodable
from featurize.place_uri import is_uri
from featurize.processes import is_abandoned
from featurize.upload import has_atomic_uploads, upload, write_and_rename
from featurize.uri import harmless_query, uri_without_secrets

__all__ = ["StoragePath", "describe", "is_safe_name", "refuse_undecodable"]


@dataclasses.dataclass(frozen=True)
class StoragePath:
    """Path of a file or folder, local or remote, which may or may not exist.

    Attributes:
        filesystem: File system of the path.
        path: Absolute path if local; as the file system expects it, such as bucket and key, if remote.
        scheme: Scheme of the URI, such as `s3`; empty if local.
        query: Part of the URI after `?`.
        authority: Part of the URI before the path that the path lacks: host and port of `hdfs`, account of `abfs`.
    """

    filesystem: pafs.FileSystem
    path: str
    scheme: str = ""
    query: str = ""
    authority: str = ""

    @classmethod
    def of(cls, text: "str | os.PathLike[str] | StoragePath") -> "StoragePath":
        """Parse a path, or a URI as `place_uri` describes; `StoragePath.of(str(path))` is the same path.

        Credentials come from the usual environment variables, the endpoint from `?endpoint_override=`.

        Raises:
            FeaturizeError: The text names no place, or pyarrow cannot open its file system.
        """
        if isinstance(text, StoragePath):
            return text
        return cls(*connect(os.fspath(text)))

    def __truediv__(self, name: str) -> "StoragePath":
        """Return a path below this one.

        Raises:
            UnsafeNameError: The name is absolute, a URI, or has parts that lead elsewhere (see `is_safe_name`).
        """
        if not is_safe_name(name):
            raise UnsafeNameError(
                f"{name!r} is not the name of a file below {self}: expected parts between single slashes, none of "
                "them empty, '.' or '..'. Rename or remove it."
            )
        return dataclasses.replace(self, path=f"{self.path.rstrip('/')}/{name}")

    def below(self, name: str) -> "StoragePath":
        """Return a path below this one, for a name that is known to be safe; `/` checks it, which takes longer."""
        return StoragePath(self.filesystem, f"{self.path}/{name}", self.scheme, self.query, self.authority)

    def __str__(self) -> str:
        """Return the path as messages show it: without secrets, and with visible escapes."""
        return one_line(self._text())

    @property
    def quoted(self) -> str:
        """The path as it is typed in a command, quoted for a shell where needed."""
        return shell_word(self._text())

    def __repr__(self) -> str:
        return f"StoragePath({str(self)!r})"

    def _text(self) -> str:
        if not self.scheme:
            return self.path
        query = harmless_query(self.query)
        return join(self.scheme, self.authority, self.path) + (f"?{query}" if query else "")

    @property
    def stored(self) -> str:
        """The path as files record it: without secrets, and with `~` for the home; `resolve` reads it."""
        if not self.local:
            return self._text()
        home = os.path.expanduser("~")
        if home != "/" and (self.path == home or self.path.startswith(f"{home.rstrip('/')}/")):
            return f"~{self.path[len(home.rstrip('/')) :]}"
        return self.path

    def resolve(self, recorded: str) -> "StoragePath":
        """Return a place that a file in this folder records: relative to the folder, or as `stored` returns it.

        A file never sets an endpoint, options or credentials: a URI of this folder's scheme is reached as this
        folder is, and any other URI without options.

        Raises:
            UnsafeNameError: A relative path leads out of this folder.
            FeaturizeError: The URI cannot be used.
        """
        if recorded == ".":
            return self
        if os.path.isabs(recorded) or recorded == "~" or recorded.startswith("~/"):
            return StoragePath.of(os.path.expanduser(recorded))
        if not is_uri(recorded):
            return self / recorded.removeprefix("./")
        place = uri_without_secrets(recorded.partition("?")[0])
        path, scheme, authority = locate(place)
        if (scheme, authority) == (self.scheme, self.authority):
            return dataclasses.replace(self, path=path)
        return StoragePath.of(place)

    @property
    def local(self) -> Path | None:
        """Path on this machine; None if remote."""
        return None if self.scheme else Path(self.path)

    @property
    def parent(self) -> "StoragePath":
        """Parent folder."""
        return dataclasses.replace(self, path=os.path.dirname(self.path))

    @property
    def name(self) -> str:
        """Last part of the path."""
        return os.path.basename(self.path)

    @property
    def suffix(self) -> str:
        """Suffix in lowercase, such as `.mp3`; empty if there is none."""
        return os.path.splitext(self.path)[1].lower()

    @property
    def arrow(self) -> dict[str, Any]:
        """Keyword arguments that functions of `pyarrow.parquet` need besides `path`."""
        return {"filesystem": self.filesystem}

    def is_folder(self) -> bool:
        """Return whether this is an existing folder; on an object store, whether any object is below it."""
        return self._is(pafs.FileType.Directory)

    def is_file(self) -> bool:
        """Return whether this is an existing file."""
        return self._is(pafs.FileType.File)

    def _is(self, kind: pafs.FileType) -> bool:
        if self.scheme:
            return bool(self.filesystem.get_file_info(self.path).type == kind)
        return os.path.isfile(self.path) if kind == pafs.FileType.File else os.path.isdir(self.path)

    def read(self) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: The file cannot be read; FileNotFoundError if it does not exist.
        """
        return self.read_at_most(None)

    def open(self) -> BinaryIO:
        """Open a file for reading, unbuffered and seekable.

        Raises:
            OSError: It cannot be opened, or is a pipe, a device or a folder. Never waits for a writer of a pipe.
        """
        if self.scheme:
            remote: BinaryIO = self.filesystem.open_input_file(self.path)
            return remote
        return open_regular(self.path)

    def read_at_most(self, size: int | None) -> bytes:
        """Return the first `size` bytes of a file, or all of a smaller one; None for all.

        Raises:
            OSError: The file cannot be read, or is a pipe or a device, which might never end; FileNotFoundError
                if it does not exist.
        """
        if not self.scheme:
            with open_regular(self.path) as local_file:
                return local_file.read(-1 if size is None else size)
        with self.filesystem.open_input_stream(self.path) as file:
            content: bytes = file.read(size)
        return content

    def write(self, content: bytes | pa.Buffer) -> None:
        """Write a file atomically, with its parent folders. It is complete or absent, even after a power cut."""
        if not self.scheme:
            write_whole(Path(self.path), content)
        elif has_atomic_uploads(self.filesystem):
            upload(self.filesystem, self.path, content)
        else:
            write_and_rename(self.filesystem, self.path, content)

    def remove(self) -> None:
        """Remove a file if it exists."""
        if not self.scheme:
            Path(self.path).unlink(missing_ok=True)
        elif self.is_file():
            self.filesystem.delete_file(self.path)

    def remove_folder(self) -> None:
        """Remove a folder and its content if it exists."""
        if not self.scheme:
            shutil.rmtree(self.path, ignore_errors=True)
        elif self.is_folder():
            self.filesystem.delete_dir(self.path)

    def remove_empty_folder(self) -> None:
        """Remove a folder if it exists and nothing is in it; an object store has no empty folders."""
        if not self.scheme:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
        elif not has_atomic_uploads(self.filesystem) and self.is_folder() and not self.names():
            self.filesystem.delete_dir(self.path)

    @contextmanager
    def at_hand(self) -> Iterator[Path]:
        """Return a context with a local path: this path if local, else a temporary copy of the file or folder.

        Raises:
            OSError: A remote file cannot be read.
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
        """Copy the content of this folder to a local folder.

        Raises:
            UnsafeNameError: A name in a bucket leads out of the folder.
        """
        for name, _ in self.files():
            content = (self / name).read()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def names(self) -> list[str]:
        """Return the names of all files and folders in a folder; none if it does not exist."""
        if self.scheme:
            selector = pafs.FileSelector(self.path, allow_not_found=True)
            return [info.base_name for info in self.filesystem.get_file_info(selector)]
        try:
            return os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def files(self) -> Iterator[tuple[str, int]]:
        """List all files below a folder, hidden ones included.

        Yields:
            Path relative to the folder, with `/` as separator, and size in bytes. Nothing if the folder does not
            exist. In a bucket a path may be unsafe to join (see `is_safe_name`).
        """
        if self.scheme:
            selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=True)
            for info in self.filesystem.get_file_info(selector):
                if info.type == pafs.FileType.File:
                    yield info.path[len(self.path) + 1 :], info.size
        else:
            yield from list_files(self.path)

    def remove_leftovers(self) -> None:
        """Remove temporary files of Earmark below this folder whose process is gone."""
        if has_atomic_uploads(self.filesystem):
            return
        for name, _ in self.files():
            file = dataclasses.replace(self, path=f"{self.path.rstrip('/')}/{name}")
            if file.name.startswith(".") and is_abandoned(file.name, file.modified()):
                file.remove()

    def modified(self) -> float:
        """Return when a file was last written, in seconds since the epoch; now if that is unknown."""
        try:
            if not self.scheme:
                return os.lstat(self.path).st_mtime
            written = self.filesystem.get_file_info(self.path).mtime
        except OSError:
            return time.time()
        return written.timestamp() if written else time.time()
