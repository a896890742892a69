"""URIs of files and folders: how a user types them, how messages show them, how files record them.

One rule for all of them. What is before the first `?` is the name of the place, and what is behind it are options,
such as `endpoint_override=...`. A name is typed plainly (`s3://bucket/my features`, `s3://bucket/set#2`) or
percent-encoded (`s3://bucket/my%20features`), and both mean the same. So `?` in a name, and a `%` that two
hexadecimal digits follow, need the encoding: `%3F` and `%25`. `encode` encodes every character that a shell, a
URI or a terminal may take for something else, and keeps letters of any script.
"""

import dataclasses
import re
import urllib.parse

# Where the first part of the path is the name of a bucket; elsewhere it is a host with its port, or an account.
_BUCKETS = frozenset({"s3", "gs", "gcs"})
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/=@:+,")
_OPTIONS = re.compile(r"[A-Za-z0-9._~!$&()*+,;=:@/?%\[\]-]+")
_ONE_SLASH = re.compile(r"(s3|gs|gcs|abfs|abfss|hdfs|viewfs|file):/(?!/)")


@dataclasses.dataclass(frozen=True)
class PlaceUri:
    """The parts of a URI.

    Attributes:
        scheme: Such as `s3`.
        user: User information before the host, with `@`; may be secret. Empty if there is none.
        host: Name of the bucket; for `hdfs` host and port, for `abfs` the account; empty for `file`.
        name: Path below the host, decoded, without a slash at its ends.
        query: Options, as typed.
    """

    scheme: str
    user: str
    host: str
    name: str
    query: str

    @property
    def is_in_bucket(self) -> bool:
        """Whether the host is the name of a bucket, which file systems expect in the path."""
        return self.scheme in _BUCKETS

    def encoded(self) -> str:
        """Return the URI with its secrets, as `pyarrow.fs` reads it."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.user}{self.host}/{urllib.parse.quote(self.name)}{query}"


def is_uri(text: str) -> bool:
    """Return whether a text that a user has typed is a URI; `/a/b://c` and `./s3://c` are paths."""
    before, separator, _ = text.partition("://")
    return bool(separator) and "/" not in before


def has_one_slash(text: str) -> bool:
    """Return whether a path begins like a URI that lacks its second slash."""
    return bool(_ONE_SLASH.match(text))


def parse(text: str) -> PlaceUri:
    """Parse a URI.

    Raises:
        ValueError: It cannot name a place; the message says which part of it, without showing secrets.
    """
    scheme, _, rest = text.partition("://")
    place, mark, query = rest.partition("?")
    authority, _, name = place.partition("/")
    user, at, host = authority.rpartition("@")
    if mark and not _OPTIONS.fullmatch(query):
        raise ValueError(
            "? begins the options, such as ?endpoint_override=http://HOST:9000, and those behind it cannot be "
            "read. In a name, type %3F instead of ?"
        )
    if host and not (_BUCKET if scheme in _BUCKETS else _HOST).fullmatch(host):
        raise ValueError(
            "the name of a bucket or a host has letters, digits, '.', '-' and '_'; a slash in a secret key is "
            "typed %2F"
        )
    if "\0" in (name := decode(name)):
        raise ValueError("a name cannot contain NUL")
    return PlaceUri(scheme, user + at, host, name.rstrip("/"), query)


def decode(name: str) -> str:
    """Return a name without percent-encoding; a `%` without two hexadecimal digits stays.

    Raises:
        ValueError: The name is not UTF-8.
    """
    try:
        decoded = _ENCODED.sub(lambda match: urllib.parse.unquote(match[0], errors="strict"), name)
        decoded.encode()
    except UnicodeError as error:
        raise ValueError("the name is not UTF-8. For a % in a name, type %25") from error
    return decoded


def encode(name: str) -> str:
    """Return a name as it is shown and recorded; `decode` reads it."""
    return "".join(
        c if c in _PLAIN or (not c.isascii() and c.isprintable()) else urllib.parse.quote(c) for c in name
    )
