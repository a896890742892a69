"""I/O errors in a short text, with what to do about the common ones of buckets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from featurize.display import one_line
from featurize.uri import without_secrets

_EXPLANATIONS = {
    "ACCESS_DENIED": "access denied; check the credentials (AWS_ACCESS_KEY_ID and its secret, or AWS_PROFILE)",
    "INVALID_ACCESS_KEY_ID": "the access key does not exist; check AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key does not match the access key; check AWS_SECRET_ACCESS_KEY",
    "EXPIRED_TOKEN": "the session token has expired; get new credentials",
    "NO_SUCH_BUCKET": "the bucket does not exist",
    "No usable temporary directory": "no folder for temporary files can be written; type: export TMPDIR=FOLDER",
    "NETWORK_CONNECTION": "the endpoint does not answer; check the network and ?endpoint_override=",
}


def describe(error: OSError) -> str:
    """Return a short description of an I/O error, with advice for common errors of buckets."""
    text = str(error)
    for code, explanation in _EXPLANATIONS.items():
        if code in text:
            return explanation
    problem = error.strerror or first_line(error)
    # In a failed rename, the first file name is temporary.
    name = error.filename2 or error.filename
    return f"{problem} ({one_line(os.fsdecode(name))})" if name else problem


def first_line(error: Exception) -> str:
    """Return the first line of a message, without the secrets of a URI in it."""
    return one_line(without_secrets((str(error).splitlines() or [type(error).__name__])[0]))


@contextmanager
def naming(place: str | os.PathLike[str]) -> Iterator[None]:
    """Give an I/O error of the body that names no file, such as that of a full disk, the name of a place."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(place)
        raise
