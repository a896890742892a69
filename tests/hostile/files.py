"""Hostile versions of the JSON, YAML and Parquet files of datasets and runs.

Each function yields (name of the case, content); the content None stands for a missing file. A case is a function
of the intact content, so that it differs from what Earmark wrote in one respect.
"""

import io
import json
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Case = tuple[str, bytes | None]

_RAW = "@raw@"  # stands for text that `json.dumps` does not write
_WRONG: dict[str, Any] = {
    "null": None,
    "text": "text",
    "negative": -1,
    "large": 10**18,
    "huge float": 1e300,
    "list": [],
    "object": {},
    "list of lists": [[[1]]],
    "true": True,
}
_RAW_NUMBERS = {"NaN": "NaN", "Infinity": "Infinity", "1e999": "1e999", "5,000 digits": "1" * 5000}
DEEP = 200_000
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)


def broken_files(content: bytes, seed: int = 0) -> Iterator[Case]:
    """Yield what may stand in any file: nothing, a part, noise, and brackets."""
    rng = random.Random(seed)
    yield "missing", None
    yield "empty", b""
    yield "truncated", content[: len(content) // 2]
    yield "cut at the end", content[:-3]
    yield "random bytes", rng.randbytes(500)
    yield "zeros", bytes(len(content))
    yield "empty list", b"[]"
    yield "empty object", b"{}"
    yield "null", b"null"
    yield "deep lists", b"[" * DEEP
    yield "deep objects", b'{"a":' * DEEP


def json_files(content: bytes) -> Iterator[Case]:
    """Yield versions of a JSON file with one wrong value, one key too few, or one too many."""
    document = json.loads(content)
    for path in _paths(document):
        name = ".".join(map(str, path))
        yield f"{name} missing", json.dumps(_without(document, path)).encode()
        for kind, value in _WRONG.items():
            yield f"{name} is {kind}", json.dumps(_with(document, path, value)).encode()
        for kind, text in _RAW_NUMBERS.items():
            yield (
                f"{name} is {kind}",
                json.dumps(_with(document, path, _RAW)).replace(f'"{_RAW}"', text).encode(),
            )


def yaml_files(content: bytes) -> Iterator[Case]:
    """Yield YAML that is expensive or impossible to build."""
    for name, text in {
        "alias bomb": BOMB,
        "alias of itself": "featurize: &a [*a]\n",
        "nested flow": "featurize: " + "[" * DEEP,
        "nested blocks": "".join(" " * i + "a:\n" for i in range(300)),
        "5,000 digits": f"featurize:\n  segments_per_track: {'1' * 5000}\n",
        "impossible date": "featurize:\n  max_seconds: 2026-99-99\n",
        "tagged date": "featurize:\n  max_seconds: !!timestamp 2026-99-99\n",
        "tagged text": "featurize:\n  max_seconds: !!float text\n",
        "python object": "featurize: !!python/object/apply:os.getcwd []\n",
        "repeated key": "featurize:\n  max_seconds: 5\n  max_seconds: 6\n",
        "a megabyte": "# " + "x" * (1 << 20) + "\nfeaturize: {}\n",
        "not UTF-8": "featurize: {}\n#",
    }.items():
        yield name, text.encode() + (b"\xff" if name == "not UTF-8" else b"")


def parquet_files(content: bytes, seed: int = 0) -> Iterator[Case]:
    """Yield versions of a Parquet file with other columns, other metadata, and damaged footers."""
    table = pq.ParquetFile(pa.BufferReader(content)).read()
    metadata = table.schema.metadata
    for index, field in enumerate(table.schema):
        yield f"without {field.name}", _parquet(table.remove_column(index), metadata)
        numbers = pa.array(range(len(table)), pa.int16())
        yield f"{field.name} of int16", _parquet(table.set_column(index, field.name, numbers), metadata)
        renamed = [f"{name}2" if name == field.name else name for name in table.column_names]
        yield f"{field.name} renamed", _parquet(table.rename_columns(renamed), metadata)
        nulls = pa.nulls(len(table), field.type)
        yield f"{field.name} of nulls", _parquet(table.set_column(index, field.name, nulls), metadata)
    yield "another column", _parquet(table.append_column("x", pa.array(range(len(table)))), metadata)
    yield "one column of numbers", _parquet(pa.table({"x": [1.5]}), None)
    yield "without metadata", _parquet(table, None)
    for key in metadata or {}:
        for name, value in broken_files(metadata[key]):
            yield f"metadata {name}", _parquet(table, {} if value is None else {key: value})
        for name, value in json_files(metadata[key]):
            yield f"metadata {name}", _parquet(table, {key: value})
    rng = random.Random(seed)
    length = int.from_bytes(content[-8:-4], "little")
    for number in range(20):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 4))):
            changed[len(content) - 8 - rng.randrange(1, length + 8)] = rng.randrange(256)
        yield f"footer flipped {number}", bytes(changed)


def _parquet(table: pa.Table, metadata: dict[bytes, bytes] | None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    return sink.getvalue()


def _paths(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value, in lists only of the first and the last one."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    keep = {0, len(document) - 1} if isinstance(document, list) else set(document)
    for key, value in entries:
        if key in keep:
            yield (*path, key)
            if isinstance(value, dict | list):
                yield from _paths(value, (*path, key))


def _with(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return copy


def _without(document: Any, path: tuple[str | int, ...]) -> Any:
    copy = json.loads(json.dumps(document))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    return copy
