"""What can go wrong with a collection or a dataset in a way that its owner can mend."""


class FeaturizeError(Exception):
    """Bad input or a place that cannot be used; the message says what was found and what to type next."""
