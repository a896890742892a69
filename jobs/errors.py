"""Errors of the command line; all are subclasses of `featurize.errors.EarmarkError`."""

from featurize.errors import EarmarkError


class ConfigError(EarmarkError):
    """The settings cannot be used; the message lists every problem."""

    exit_status = 2


class SubmitError(EarmarkError):
    """The cluster cannot be reached or rejects the job."""


class Interrupted(EarmarkError):  # noqa: N818 - a request of the user, not an error
    """A signal has ended the command; finished work is kept.

    Attributes:
        signum: The number of the signal.
    """

    def __init__(self, signum: int, kept: str) -> None:
        super().__init__(signum, kept)
        self.signum = signum
        self.exit_status = 128 + signum

    def __str__(self) -> str:
        return str(self.args[1])
