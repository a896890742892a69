"""What a file is by its first bytes, if it is no table of a format that is read, and how to make it one."""

SAMPLE_BYTES = 64
_WORKBOOK = "Save its sheet as CSV"
_AS_PARQUET = "Write it as Parquet, such as with pandas: read_feather(FILE).to_parquet('tracks.parquet')"
_AS_LINES = "Write one object on each line, in a file with the suffix .jsonl, such as with: jq -c '.[]' FILE"
_AS_TABLE = "Write its tracks as CSV, with a column of paths and one of labels"
# First bytes, what they tell, and what to type.
_KINDS = (
    (b"PK\3\4", "an Excel workbook or a ZIP archive", _WORKBOOK),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _WORKBOOK),
    (b"PAR1", "a Parquet file", "Name it with the suffix .parquet"),
    (b"ARROW1", "an Arrow or Feather file", _AS_PARQUET),
    (b"FEA1", "a Feather file", _AS_PARQUET),
    (b"\x1f\x8b", "compressed with gzip", "Decompress it, or name it with the suffix .csv.gz"),
    (b"BZh", "compressed with bzip2", "Decompress it"),
    (b"\xfd7zXZ", "compressed with xz", "Decompress it"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "Decompress it"),
    (b"SQLite format 3", "an SQLite database", _AS_TABLE),
    (b"[", "a JSON list", _AS_LINES),
    (b"#EXTM3U", "a playlist", _AS_TABLE),
    (b"<", "XML or HTML", _AS_TABLE),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "Fetch it: git lfs pull"),
)


def other_kind(beginning: bytes) -> str:
    """Return what a file is by its first bytes, and what to do; empty if they are those of a text or unknown.

    Args:
        beginning: The first `SAMPLE_BYTES` bytes, or fewer.
    """
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((f"it is {kind}. {advice}" for first, kind, advice in _KINDS if text.startswith(first)), "")
