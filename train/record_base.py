"""What the types of a run's JSON files share: the base of all records, bounded numbers, and readable errors."""

import reprlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featurize.dataset.schema import FOLD_NUMBERS
from featurize.display import one_line

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Share = Annotated[float, Field(ge=0, le=1)]
LARGEST_FIGURE = 1e9
Figure = Annotated[float, Field(ge=-LARGEST_FIGURE, le=LARGEST_FIGURE)]
NotNegative = Annotated[float, Field(ge=0)]
Fold = Annotated[int, Field(ge=0, lt=FOLD_NUMBERS)]
Epoch = Annotated[int, Field(ge=1, le=1_000_000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Classes = Annotated[list[str], Field(min_length=1)]


class Record(BaseModel):
    """Base of all records: values have exactly the declared types, and unknown keys are kept."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        strict=True,
        validate_by_alias=True,
        validate_by_name=True,
        allow_inf_nan=False,
    )

    def to_json(self) -> dict[str, Any]:
        """Return the content for `json.dumps`: the keys that were given or read, without defaults."""
        return self.model_dump(by_alias=True, exclude_unset=True)


def explain(error: ValidationError) -> str:
    """Return the first problem of a file in one line: the key, the expected value and the value found."""
    problem = error.errors(include_url=False)[0]
    key = one_line(".".join(map(str, problem["loc"])))
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "model_type":
        message = "input should be an object"
    else:
        message = problem["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
    return f"{key + ': ' if key else ''}{message}, found {reprlib.repr(problem['input'])}"
