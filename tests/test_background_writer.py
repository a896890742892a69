"""Functions called in the background: in order, at most a few behind, and none after an error."""

import threading

import pytest

from train.fit.background_writer import BackgroundWriter


def test_functions_are_called_in_order():
    called: list[int] = []
    with BackgroundWriter() as writer:
        for number in range(100):
            writer.submit(lambda number=number: called.append(number))
        writer.finish()
        assert called == list(range(100))


def test_the_caller_waits_if_the_thread_is_too_far_behind():
    with BackgroundWriter() as writer:
        gate, submitted = threading.Event(), threading.Event()

        def submit_four():
            for _ in range(4):
                writer.submit(gate.wait)
            submitted.set()

        caller = threading.Thread(target=submit_four)
        caller.start()
        assert not submitted.wait(0.2)
        gate.set()
        assert submitted.wait(60)
        caller.join()


def test_after_an_error_nothing_more_is_called():
    called: list[str] = []

    def fail():
        raise OSError("full")

    with BackgroundWriter() as writer:
        gate = threading.Event()
        writer.submit(gate.wait)
        writer.submit(fail)
        writer.submit(lambda: called.append("after"))
        writer.check()
        gate.set()
        with pytest.raises(OSError, match="full"):
            writer.finish()
        for call in (writer.check, writer.finish, lambda: writer.submit(lambda: called.append("later"))):
            with pytest.raises(OSError, match="full"):
                call()
    assert called == []
