"""An S3 Inventory as MUSIC: the same tracks as from listing the bucket, without listing it."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.waiting_bucket import requests, waiting_bucket
from benchmarks.waiting_bucket import uri as waiting_uri
from featurize.collection.catalog import build_catalog
from featurize.errors import FeaturizeError

KEYS = ["songs/rock/a b.mp3", "songs/rock/x/c+d.mp3", "songs/pop/é.wav", "songs/pop/100%.ogg"]
KEYS += ["songs/pop/cover.jpg"]
KEYS += [f"songs/{label}/{number}.mp3" for label in ("pop", "rock") for number in range(4)]
TRACKS = sorted(key.removeprefix("songs/") for key in KEYS if not key.endswith(".jpg"))
PLACE = "lists/daily/2026-01-01T00-00Z"


def quoted(key):
    from urllib.parse import quote_plus

    return quote_plus(key, safe="/")


def csv_part(keys):
    """Return a part with versions: an old one of the first key, and a deleted object."""
    rows = [f'"music","{quoted(key)}","v","true","false","{len(key)}","etag"' for key in keys]
    rows.append(f'"music","{quoted(keys[0])}","u","false","false","999","old"')
    rows.append('"music","songs/rock/gone.mp3","v","true","true","",""')
    return gzip.compress("\n".join(rows).encode() + b"\n")


def parquet_part(keys):
    sink = io.BytesIO()
    columns = {"bucket": ["music"] * len(keys), "key": keys, "size": [len(key) for key in keys]}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def manifest(file_format, parts, **changes):
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag"
    content = {
        "sourceBucket": "bucket",
        "destinationBucket": "arn:aws:s3:::bucket",
        "version": "2016-11-30",
        "creationTimestamp": "1767225600000",
        "fileFormat": file_format,
        "fileSchema": schema if file_format == "CSV" else "message s3.inventory { required binary key (UTF8); }",
        "files": [{"key": f"lists/daily/data/{name}", "size": len(part)} for name, part in parts.items()],
    }
    return json.dumps({**content, **changes})


def write(folder, file_format, parts, **changes):
    """Write an inventory; return the path of its manifest below the folder."""
    (folder / "lists" / "daily" / "data").mkdir(parents=True)
    (folder / PLACE).mkdir()
    for name, part in parts.items():
        (folder / "lists" / "daily" / "data" / name).write_bytes(part)
    (folder / PLACE / "manifest.json").write_text(manifest(file_format, parts, **changes))
    return f"{PLACE}/manifest.json"


FORMATS = {
    "CSV": lambda: {"one.csv.gz": csv_part(KEYS[:2]), "two.csv.gz": csv_part(KEYS[2:])},
    "Parquet": lambda: {"one.parquet": parquet_part(KEYS)},
}


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_inventory_gives_the_tracks_of_its_bucket_without_a_listing(file_format, tmp_path):
    path = write(tmp_path, file_format, FORMATS[file_format]())
    with waiting_bucket(tmp_path, 0) as address:
        catalog = build_catalog(waiting_uri(address, path))
        assert requests(address)["LIST"] <= 2  # pyarrow looks whether MUSIC is a folder
    assert catalog.tracks["track"].to_pylist() == TRACKS
    assert catalog.tracks["label"].to_pylist() == [track.split("/")[0] for track in TRACKS]
    assert catalog.tracks["size"].to_pylist() == [len(f"songs/{track}") for track in TRACKS]
    assert str(catalog.root).startswith("s3://bucket/songs?endpoint_override=http")


def test_a_downloaded_inventory_names_a_bucket_that_must_be_allowed(tmp_path, monkeypatch):
    path = tmp_path / write(tmp_path, "Parquet", FORMATS["Parquet"]())
    with pytest.raises(
        FeaturizeError, match=r"inventory of s3://bucket, another bucket.* add --allow-bucket bucket"
    ):
        build_catalog(str(path))
    with waiting_bucket(tmp_path, 0) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        catalog = build_catalog(str(path), allowed=["bucket"])
    assert catalog.tracks["track"].to_pylist() == TRACKS
    assert str(catalog.root) == "s3://bucket/songs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fileFormat": "ORC"}, "in the format ORC. Expected CSV or Parquet"),
        ({"fileFormat": "XML"}, "is not the manifest of an S3 Inventory: fileFormat"),
        ({"files": []}, "is not the manifest of an S3 Inventory: files"),
        ({"files": [{"key": "../../etc/x.parquet"}]}, "leads out of its folder"),
        ({"files": [{"key": "lists/daily/data/absent.parquet"}]}, "absent.parquet, a part of .* is missing"),
        ({"sourceBucket": "a/b?c"}, "is not the manifest of an S3 Inventory: sourceBucket"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_an_error(changes, message, tmp_path):
    path = tmp_path / write(tmp_path, "Parquet", FORMATS["Parquet"](), **changes)
    with pytest.raises(FeaturizeError, match=message):
        build_catalog(str(path), allowed=["bucket"])


@pytest.mark.parametrize(
    ("file_format", "part", "message"),
    [
        ("CSV", b"no gzip", "cannot be read"),
        (
            "CSV",
            gzip.compress(b'"music","a"\n', mtime=0),
            "cannot be read: CSV parse error: Expected 7 columns, got 2",
        ),
        ("CSV", csv_part(KEYS)[:-40], "cannot be read"),
        ("CSV", csv_part(["x" * 5000 + ".mp3"]), "cannot be read: it has a key that is empty or too long"),
        ("Parquet", b"PAR1 no", "cannot be read"),
        ("Parquet", parquet_part(["x" * (20 << 20)] * 3), "cannot be read: it has keys that are too long"),
        ("Parquet", parquet_part(["songs/cover.jpg"]), "lists 1 objects of bucket, but no audio files"),
    ],
)
def test_a_part_that_cannot_be_used_is_an_error(file_format, part, message, tmp_path):
    path = tmp_path / write(tmp_path, file_format, {"one.csv.gz" if file_format == "CSV" else "one.parquet": part})
    with pytest.raises(FeaturizeError, match=message):
        build_catalog(str(path), allowed=["bucket"])


def test_files_of_one_folder_have_it_as_their_class(tmp_path, monkeypatch):
    keys = [f"all/songs/rock/{number}.mp3" for number in range(5)]
    path = tmp_path / write(tmp_path, "Parquet", {"one.parquet": parquet_part(keys)})
    with waiting_bucket(tmp_path, 0) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(FeaturizeError, match="found 1: rock: 5"):
            build_catalog(str(path), allowed=["bucket"])
