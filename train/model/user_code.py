"""Run the code of a user's model; an error in it becomes a sentence with the user's own lines."""

import hashlib
import linecache
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from featurize.display import one_line
from train.errors import TrainError
from train.model.code_file import ModelCode

_LINES_SHOWN = 10


def load_code(code: ModelCode) -> Callable[..., Any]:
    """Execute a user's file and return its function.

    Layers that the file registers with `keras.saving.register_keras_serializable` can be loaded in this process
    from then on.

    Raises:
        TrainError: The file raises an exception, or the function is none.
    """
    # A second execution would register other classes under the same names.
    module_name = f"earmark_model_{hashlib.sha256(code.content).hexdigest()[:16]}"
    module = sys.modules.get(module_name)
    if module is None:
        module = types.ModuleType(module_name)
        sys.modules[module_name] = module
        text = code.content.decode("utf-8", "replace")
        linecache.cache[code.name.file] = (len(text), None, text.splitlines(keepends=True), code.name.file)
        try:
            with explained(code, f"{code.name.file} cannot be executed"):
                exec(compile(code.content, code.name.file, "exec"), module.__dict__)
        except BaseException:
            del sys.modules[module_name]
            raise
    function = getattr(module, code.name.function, None)
    if not callable(function):
        raise TrainError(
            f"{code.name.file}: {code.name.function} is {type(function).__name__}, expected a function of "
            "(input_shape, classes, config)."
        )
    builder: Callable[..., Any] = function
    return builder


@contextmanager
def explained(code: ModelCode, what: str) -> Iterator[None]:
    """Turn an exception of the user's code into a TrainError with the lines of the user's file that led to it."""
    try:
        yield
    except TrainError:
        raise
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == code.name.file]
        lines = "".join(
            f"\n  {one_line(frame.filename)}, line {frame.lineno}, in {frame.name}: {one_line(frame.line or '')}"
            for frame in frames[-_LINES_SHOWN:]
        )
        message = one_line((str(error).splitlines() or [""])[0])
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = "\nThe file is used alone, so what it imports must be installed, here and on every node."
        raise TrainError(f"{what}: {type(error).__name__}: {message}{lines}{hint}") from error
