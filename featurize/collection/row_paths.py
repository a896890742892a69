"""Which files a table may name: those of its own bucket and of allowed ones; local files only if it is local."""

from collections import defaultdict

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.location import UriOptionsError, parse_file_uri, parse_uri

_BUCKETS_SHOWN = 10
_WEB = ("http://", "https://", "ftp://")
_DOWNLOAD = "a web address; download the files, and write their paths into the table"
# A part that is empty, "." or "..": as in `is_safe_name`, for many rows at once.
_UNSAFE = r"(^|/)\.{0,2}(/|$)"


def refused_rows(paths: pa.Array, own: str | None, allowed: frozenset[str]) -> dict[str, list[int]]:
    """Find the rows whose path a table must not name.

    Args:
        paths: Paths and URIs, string [rows].
        own: Bucket of the table as a URI; None if the table is on this machine.
        allowed: Other buckets that rows may name, as names or as URIs.

    Returns:
        Indices of rows by problem, as in `2 rows have ...`; empty if every row may be read.
    """
    problems: defaultdict[str, list[int]] = defaultdict(list)
    is_uri = pc.match_substring(paths, "://")
    is_path = pc.invert(is_uri)
    buckets: defaultdict[str, list[int]] = defaultdict(list)
    refused = {"a path with the character NUL": pc.match_substring(paths, "\0")}
    if own:
        absolute = pc.and_(is_path, pc.starts_with(paths, "/"))
        unsafe = pc.and_(pc.match_substring_regex(paths, _UNSAFE), pc.not_equal(paths, ""))
        refused["a local path, which a table in a bucket must not name"] = absolute
        refused["a path with an empty part, '.' or '..', which a bucket cannot have"] = pc.and_(
            is_path, pc.and_not(unsafe, absolute)
        )
    for problem, where in refused.items():
        if rows := pc.indices_nonzero(where).to_pylist():
            problems[problem] = rows
    for row in pc.indices_nonzero(is_uri).to_pylist():
        text = paths[row].as_py()
        if parse_file_uri(text):
            if own:
                problems["a local path, which a table in a bucket must not name"].append(row)
            continue
        try:
            file = parse_uri(text)
        except UriOptionsError:
            problems["a URI with options or credentials, which a row must not set"].append(row)
        except ValueError:
            is_web = text.lower().startswith(_WEB)
            problems[_DOWNLOAD if is_web else "a URI that names no file in a bucket"].append(row)
        else:
            if file.store != own and not allowed & {file.store, file.bucket}:
                buckets[file.store].append(row)
    by_count = sorted(buckets.items(), key=lambda item: (-len(item[1]), item[0]))
    for store, rows in by_count[:_BUCKETS_SHOWN]:
        name = store.partition("://")[2]
        problems[f"a file in {store}; if you trust it, add --allow-bucket {name}"] = rows
    if others := by_count[_BUCKETS_SHOWN:]:
        rows = sorted(row for _, rows in others for row in rows)
        problems[f"a file in one of {len(others)} more buckets that are not allowed"] = rows
    return dict(problems)
