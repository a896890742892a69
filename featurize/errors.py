"""What can go wrong: with a collection or a dataset as a whole, and with one track.

    EarmarkError                   root of every error that a user can fix; the command line prints its message
      FeaturizeError               a collection or a place that cannot be used
        DatasetError               a folder that is not a complete dataset
        CollectionLostError        files that were there can no longer be reached
        UnsafeNameError            a name that leads out of the folder that it is joined to
      train.errors.TrainError      training, evaluation, export or a report cannot start or continue
        train.errors.NotFiniteError  a model whose training diverged
      jobs.errors.ConfigError      settings that cannot be used (exit status 2)
      jobs.errors.SubmitError      a cluster that cannot be reached, or rejects a job
      jobs.errors.Interrupted      a signal has ended the work (exit status 128 + signal)

`Reject` (a finding about one track) and `train.errors.Stopped` (a request that was obeyed) are not errors.
"""


class EarmarkError(Exception):
    """Root of the errors that a user can fix.

    The message is complete: what was found, what was expected, and what to type next.

    Attributes:
        exit_status: What a command exits with.
    """

    exit_status: int = 1


class FeaturizeError(EarmarkError):
    """Bad input, or a place that cannot be used."""


class DatasetError(FeaturizeError):
    """A folder that is not a complete dataset of this format; the message names the files."""


class CollectionLostError(FeaturizeError):
    """Files that were there can no longer be reached: a lost mount, a bucket that does not answer."""


class UnsafeNameError(FeaturizeError):
    """A name, from a listing or a file, that leads out of the folder that it is joined to, or names no file."""


class Reject(Exception):  # noqa: N818 - a finding about one track, not an error of the program
    """A track that cannot become rows.

    Attributes:
        stage: Where the problem was found: `open`, `decode` or `check`.
        reason: What is wrong, from a small fixed vocabulary, so that reasons can be counted.
        message: Details: the decoder's own message, or the values found.
    """

    def __init__(self, stage: str, reason: str, message: str) -> None:
        super().__init__(stage, reason, message)
        self.stage = stage
        self.reason = reason
        self.message = message
