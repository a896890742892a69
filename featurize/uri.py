"""URIs without what is secret in them: keys and passwords before the host, and signatures in the query."""

import re
import urllib.parse

# Options of `pyarrow.fs` that name no secret. Everything else in a query is left out: signatures, keys, tokens.
_HARMLESS = frozenset(
    {
        "allow_bucket_creation",
        "allow_bucket_deletion",
        "blob_storage_authority",
        "blob_storage_scheme",
        "buffer_size",
        "default_block_size",
        "dfs_storage_authority",
        "dfs_storage_scheme",
        "enable_tls",
        "endpoint_override",
        "force_virtual_addressing",
        "region",
        "replication",
        "retry_limit_seconds",
        "scheme",
        "smart_defaults",
        "tls_ca_dir_path",
        "tls_ca_file_path",
        "tls_verify_certificates",
    }
)
_URI = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+""")
_USER_INFO = re.compile(r"(?<=://)[^/?#]*@")
# A secret key with a slash that is not percent-encoded: pyarrow refuses the URI, and messages quote it.
_UNQUOTED_KEY = re.compile(r"(?<=://)([^/?#@:]*):(?!\d+(/|$))[^?#]*@")
_ABFS_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*)(:[^/?#@]*)?@")


def harmless_query(query: str) -> str:
    """Return the part of a query, without `?`, that names no secret."""
    kept = []
    for option in query.partition("#")[0].split("&"):
        key, separator, value = option.partition("=")
        if separator and urllib.parse.unquote(key).lower() in _HARMLESS:
            kept.append(f"{key}={_without_user(value)}")
    return "&".join(kept)


def without_secrets(text: str) -> str:
    """Return text in which each URI has neither user information nor options that may be secret."""
    return _URI.sub(lambda match: uri_without_secrets(match[0]), text)


def uri_without_secrets(uri: str) -> str:
    """Return a URI without its secrets; unlike `without_secrets`, also if there are spaces in it."""
    place, _, query = uri.partition("?")
    place = _UNQUOTED_KEY.sub(r"\1@", place)
    if uri.lower().startswith("abfs"):  # the name of the container stands before the host, too
        place = _ABFS_PASSWORD.sub(lambda match: f"{match[1]}@" if match[1] else "", place)
    else:
        place = _USER_INFO.sub("", place)
    kept = harmless_query(query)
    return f"{place}?{kept}" if kept else place


def _without_user(value: str) -> str:
    """Return the value of an option without user information, also if it is percent-encoded."""
    scheme, separator, rest = urllib.parse.unquote(value).rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if "@" in host else value
