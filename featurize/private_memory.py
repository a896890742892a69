"""A limit on the private memory of this process, on Linux; other systems have no such limit.

The limit is on private data, not on addresses: libraries reserve gigabytes of addresses that they never use.
"""

import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# The limit is one of the whole process: of two that overlap, the one that ends last would restore the other's.
_one_at_a_time = threading.Lock()


def limit_private_memory(more: int) -> None:
    """Let this process use some bytes more than it does now; allocations beyond raise MemoryError or end it.

    A limit that is already lower stays.

    Args:
        more: Bytes beyond those that the process uses now.
    """
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = _lower(_private_bytes() + more, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


@contextmanager
def limited_private_memory(more: int) -> Iterator[None]:
    """Let this process use some bytes more until the context ends; one thread at a time is in such a context.

    Args:
        more: Bytes beyond those that the process uses now.
    """
    if sys.platform != "linux":
        yield
        return
    with _one_at_a_time:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (_lower(_private_bytes() + more, soft), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _private_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))


def _lower(limit: int, other: int) -> int:
    return limit if other == resource.RLIM_INFINITY else min(limit, other)
