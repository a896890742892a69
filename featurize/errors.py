"""What can go wrong: with a collection or a dataset as a whole, and with one track."""


class FeaturizeError(Exception):
    """Bad input or a place that cannot be used; the message says what was found and what to type next."""


class DatasetError(FeaturizeError):
    """A folder that is not a complete dataset of this format; the message names the files."""


class CollectionLostError(FeaturizeError):
    """Files that were there can no longer be reached: a lost mount, a bucket that does not answer."""


class Reject(Exception):  # noqa: N818 - a verdict on one track, not an error of the program
    """A track that cannot become rows.

    Attributes:
        stage: where it was found out: `open`, `decode` or `check`.
        reason: what is wrong, from a small fixed vocabulary, so that reasons can be counted.
        message: the decoder's own words or the figures, for the one who looks into it.
    """

    def __init__(self, stage: str, reason: str, message: str) -> None:
        super().__init__(stage, reason, message)
        self.stage = stage
        self.reason = reason
        self.message = message
