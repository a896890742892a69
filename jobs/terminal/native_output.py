"""Hide the output of native libraries on standard error, unless they fail."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Hide what TensorFlow prints about CUDA and CPU features on import; it looks like errors but is harmless."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_libraries():
        yield


@contextmanager
def quiet_libraries(*plain: type[Exception]) -> Iterator[None]:
    """Hide output that libraries write directly to file descriptor 2; print it if an exception is raised.

    Args:
        plain: Exceptions with complete messages, for which the output stays hidden.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        except plain:
            raise
        except Exception:
            output.seek(0)
            os.write(original, output.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
