"""The errors of the command line, below the root of all of Earmark's, `featurize.errors.EarmarkError`."""

from featurize.errors import EarmarkError


class ConfigError(EarmarkError):
    """The settings cannot be used; the message lists everything that is wrong with them."""

    exit_status = 2


class SubmitError(EarmarkError):
    """The cluster cannot be reached, or rejects the job."""


class Interrupted(EarmarkError):  # noqa: N818 - not an error: it was asked for
    """A signal has ended the work, and what was done is kept.

    Attributes:
        signum: The number of the signal.
    """

    def __init__(self, signum: int, kept: str) -> None:
        super().__init__(kept)
        self.signum = signum
        self.exit_status = 128 + signum
