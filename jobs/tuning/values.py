"""The values of a setting in a search, a choice or a range of numbers: read and checked against the setting."""

import dataclasses
import math
import reprlib
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from train.config import TrainConfig

MODEL_SETTINGS = "model_settings"
_MOST_VALUES = 1000
_DIGITS = 4  # of a number that is drawn
_FORM = (
    "expected a list of values, such as [16, 32], or one of {uniform: [LOW, HIGH]}, {loguniform: [LOW, HIGH]}, "
    "{integers: [LOW, HIGH]} and {logintegers: [LOW, HIGH]}"
)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values, each equally probable.

    Attributes:
        values: The values.
    """

    values: tuple[Any, ...]

    def at(self, position: float) -> Any:
        """Return the value at a position in [0, 1)."""
        return self.values[int(position * len(self.values))]

    @property
    def count(self) -> float:
        """Number of values."""
        return len(self.values)


@dataclasses.dataclass(frozen=True)
class Range:
    """A number between two others.

    Attributes:
        low: The lowest number.
        high: The highest number.
        by_logarithm: Whether its logarithm is uniformly distributed, and not the number itself.
        whole: Whether it is an integer.
    """

    low: float
    high: float
    by_logarithm: bool
    whole: bool

    def at(self, position: float) -> float:
        """Return the number at a position in [0, 1), in a few significant digits."""
        high = self.high + 1 if self.whole else self.high  # an integer stands for all up to the next
        if self.by_logarithm:
            value = self.low * (high / self.low) ** position
        else:
            value = self.low + position * (high - self.low)
        value = math.floor(value) if self.whole else float(f"{value:.{_DIGITS}g}")
        return min(max(value, self.low), self.high)

    @property
    def count(self) -> float:
        """Number of values; infinite unless they are integers."""
        return self.high - self.low + 1 if self.whole else math.inf


Values = Choice | Range
_RANGES = {
    "uniform": (False, False),
    "loguniform": (True, False),
    "integers": (False, True),
    "logintegers": (True, True),
}


def parse_values(name: str, value: Any) -> Values:
    """Return the values of a setting.

    Raises:
        ValueError: The form is another one, or the setting cannot have these values.
    """
    if isinstance(value, list):
        return Choice(_choices(name, value))
    if not isinstance(value, dict):
        raise ValueError(
            f"{_FORM}; found {reprlib.repr(value)}. A value for all trials is given with --set {name}=VALUE"
        )
    if len(value) != 1 or next(iter(value)) not in _RANGES:
        raise ValueError(f"{_FORM}; found {reprlib.repr(value)}")
    (kind, ends) = next(iter(value.items()))
    by_logarithm, whole = _RANGES[kind]
    if not isinstance(ends, list) or len(ends) != 2:
        raise ValueError(f"expected {kind}: [LOW, HIGH], found {reprlib.repr(ends)}")
    low, high = (_number(end, whole) for end in ends)
    if not low < high:
        raise ValueError(f"expected {kind}: [LOW, HIGH] with LOW less than HIGH, found {reprlib.repr(ends)}")
    if by_logarithm and low <= 0:
        raise ValueError(f"expected {kind}: [LOW, HIGH] with LOW more than 0, found {reprlib.repr(ends)}")
    for end in (low, high):
        try:
            _check(name, end)
        except ValueError as error:
            hint = "" if whole else "; for whole numbers there are integers and logintegers"
            raise ValueError(f"{error}{hint if 'integer' in str(error) else ''}") from None
    return Range(low, high, by_logarithm, whole)


def _choices(name: str, values: list[Any]) -> tuple[Any, ...]:
    if not 1 <= len(values) <= _MOST_VALUES:
        raise ValueError(f"expected 1 to {_MOST_VALUES} values, found {len(values)}")
    checked = tuple(_check(name, value) for value in values)
    if len({repr(value) for value in checked}) < len(checked):
        raise ValueError(f"a value is there twice: {reprlib.repr(values)}")
    return checked


def _number(value: Any, whole: bool) -> float:
    """Return a number; YAML reads 1e-4, without a point, as text."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or abs(number) >= 2**53:
        raise ValueError(f"expected numbers, found {reprlib.repr(value)}")
    if whole and number != int(number):
        raise ValueError(f"expected whole numbers, found {reprlib.repr(value)}")
    return int(number) if whole else number


def _check(name: str, value: Any) -> Any:
    """Return a value as the setting has it.

    Raises:
        ValueError: The setting cannot have it.
    """
    key = name.removeprefix("train.")
    if key.startswith(f"{MODEL_SETTINGS}."):
        return value  # checked with the others when a trial is drawn
    field = TrainConfig.model_fields[key]
    kind: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ValueError(f"{message[0].lower()}{message[1:]}, found {reprlib.repr(value)}") from None
