"""Records that are stored as JSON: their base class, and what is wrong with a file that does not hold one."""

import reprlib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from featurize.display import one_line

_PROBLEMS_SHOWN = 5


class StoredModel(BaseModel):
    """Base class of records stored as JSON: no missing keys, no extra keys, no type conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def describe_invalid(error: ValidationError) -> str:
    """Describe the first invalid keys of stored JSON: the path, as in `counts.0.label`, and the value found."""
    problems = error.errors(include_url=False)
    more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
    return "; ".join([*map(_describe_problem, problems[:_PROBLEMS_SHOWN]), *more])


def _describe_problem(problem: Any) -> str:
    key = one_line(".".join(map(str, problem["loc"]))) or "the content"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a known key"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    message = problem["msg"].removeprefix("Input should be ").removeprefix("List should have ")
    return f"{key} is {reprlib.repr(problem['input'])}, expected {message}"
