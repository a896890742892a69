"""Listing a bucket by prefixes finds what one recursive listing finds, with many requests at a time."""

import pytest

from benchmarks.waiting_bucket import requests, waiting_bucket
from benchmarks.waiting_bucket import uri as waiting_uri
from featurize.collection import bucket_listing
from featurize.collection.bucket_listing import list_by_prefix
from featurize.storage import StoragePath

ORDINARY = ["top.wav", "rock/a.wav", "rock/x/b.wav", "rock/x/y/z/c.wav", "pop/x/d.wav", "a%2Fb/e.wav", "x y/#.wav"]
ODD = {
    "empty part": ["rock//etc/x.wav", "rock/a.wav", "pop/b.wav"],
    "empty first part": ["/etc/x.wav", "rock/a.wav"],
    "dots": ["rock/../x.wav", "rock/./y.wav", "./z.wav", "../u.wav", "rock/a.wav"],
    "a folder named like an object": ["rock", "rock/a.wav"],
}


@pytest.mark.parametrize("few", [True, False], ids=["two levels", "one level"])
@pytest.mark.parametrize("kind", ["ordinary", *ODD])
def test_everything_is_found_once(kind, few, client, uri, monkeypatch):
    monkeypatch.setattr(bucket_listing, "_AT_ONCE", 16 if few else 1)
    place = f"listing-{kind}".replace(" ", "-")
    for name in ODD.get(kind, ORDINARY):
        client.put_object(Bucket="music", Key=f"{place}/{name}", Body=b"x" * len(name))
    root = StoragePath.of(uri(f"music/{place}"))
    assert sorted(list_by_prefix(root)) == sorted(root.files())
    assert len({name for name, _ in root.files()}) == len(ODD.get(kind, ORDINARY))


def test_a_place_without_objects_is_empty(client, uri):
    assert list(list_by_prefix(StoragePath.of(uri("music/nothing")))) == []


def test_large_folders_are_listed_side_by_side(tmp_path):
    for folder in range(2):
        for part in range(2):
            (tmp_path / f"{folder}" / f"{part}").mkdir(parents=True)
            for number in range(1001):
                (tmp_path / f"{folder}" / f"{part}" / f"{number}.wav").touch()
    with waiting_bucket(tmp_path, 0) as address:
        found = list(list_by_prefix(StoragePath.of(waiting_uri(address))))
        assert len(found) == len(set(found)) == 2 * 2 * 1001
        # The root, its folders, and two pages for each folder of those; one listing has 5 pages, in a row.
        assert requests(address)["LIST"] == 1 + 2 + 2 * 4
