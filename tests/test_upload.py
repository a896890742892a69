"""Writing an object: whole or not at all, whatever interrupts the write."""

import random
import signal
import time

import pytest

from featurize.storage import StoragePath

CONTENT = bytes(range(256)) * 512  # 128 kB


class InterruptError(Exception):
    pass


def interrupted_writes(folder: StoragePath, count: int, seconds: float) -> tuple[int, list[int]]:
    """Interrupt writes at random moments; return how many were, and the sizes of the objects that are there."""

    def interrupt(signum, frame):
        raise InterruptError

    before = signal.signal(signal.SIGALRM, interrupt)
    moments, interrupted = random.Random(count), 0
    try:
        for index in range(count):
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-5, seconds))
                (folder / f"{index}").write(CONTENT)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptError:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return interrupted, [size for _, size in folder.files()]


def seconds_of_a_write(folder: StoragePath) -> float:
    begun = time.monotonic()
    for index in range(10):
        (folder / f"{index}").write(CONTENT)
    return (time.monotonic() - begun) / 10


@pytest.mark.parametrize("count", [100, pytest.param(4000, marks=pytest.mark.matrix)])
def test_an_interrupted_write_leaves_no_partial_object(count, client, uri):
    folder = StoragePath.of(uri(f"music/interrupted-{count}"))
    interrupted, sizes = interrupted_writes(folder, count, 1.2 * seconds_of_a_write(folder))
    print(f"{count} writes, {interrupted} interrupted, {len(sizes)} objects, partial: {sizes.count(0)}")
    assert interrupted > count / 10
    assert set(sizes) == {len(CONTENT)}


def test_a_failed_write_leaves_nothing(client, uri):
    there, missing = StoragePath.of(uri("music/whole")), StoragePath.of(uri("no-such-bucket/object"))
    there.write(CONTENT)
    with pytest.raises(OSError, match="no-such-bucket"):
        missing.write(CONTENT)
    with pytest.raises(TypeError):
        there.write(1.5)
    assert there.read() == CONTENT
