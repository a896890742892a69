"""Read a table of tracks in a child process with a limit on its memory: a small file can describe terabytes."""

import pyarrow as pa

from featurize.collection.listing import size_of
from featurize.collection.manifest import read_table
from featurize.errors import FeaturizeError
from featurize.execution.child_process import ChildProcess
from featurize.execution.limits import describe_death, limited
from featurize.storage import StoragePath

_SECONDS = 1800.0
# Tables of a million rows need a few hundred megabytes; large ones are compressed at most this many times.
_MEMORY_BYTES, _MEMORY_PER_BYTE = 1 << 30, 64


def read_table_apart(path: StoragePath, folds: int, own: str | None, allowed: frozenset[str]) -> pa.Table:
    """Read a table as `read_table` does, in a child process.

    Raises:
        FeaturizeError: As in `read_table`; also if it takes too much memory or time.
    """
    memory = _MEMORY_BYTES + _MEMORY_PER_BYTE * max(size_of(path), 0)
    with ChildProcess(*limited(memory, read_table, path, folds, own, allowed)) as child:
        try:
            kind, value = child.receive(_SECONDS)
        except TimeoutError as error:
            raise _unusable(path, f"it takes longer than {_SECONDS:g} s") from error
    if kind == "returned":
        return value
    if isinstance(value, MemoryError):
        raise _unusable(path, "it takes more memory than a table of its size should")
    if kind == "raised":
        raise value
    raise _unusable(path, describe_death(value))


def _unusable(path: StoragePath, problem: str) -> FeaturizeError:
    return FeaturizeError(
        f"{path} cannot be read as a {path.suffix[1:]} table: {problem}. Expected a table of tracks."
    )
