"""Libraries kept from talking to the terminal, unless what they do fails."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Import TensorFlow without its notices about CUDA and CPU features, which look like errors and are not."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_libraries():
        yield


@contextmanager
def quiet_libraries(*plain: type[Exception]) -> Iterator[None]:
    """Keep from the terminal what libraries write to it past Python, straight to the file descriptor.

    It is shown where they fail.

    Args:
        plain: errors that say all there is to say, and beside which nothing is shown.
    """
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except plain:
            raise
        except Exception:
            notices.seek(0)
            os.write(screen, notices.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
