"""The folder of a run may be shared: it names neither the user's home nor what is secret in a URI."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from support.s3 import moto_server

from featurize.dataset.music_root import find_music, write_music
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe
from featurize.uri import without_secrets

SECRETS = ("hiddenkeyid", "hiddensecret")
SETTINGS = [
    "--set", "featurize.tracks_per_shard=10",
    "--set", "featurize.segments_per_track=1",
    "--set", "train.epochs=1",
    "--set", "train.batch_size=16",
]  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://key:secret@bucket/a/b", "s3://bucket/a/b"),
        ("s3://key:se/cret@bucket/a", "s3://bucket/a"),
        ("s3://host:9000/a@b/c", "s3://host:9000/a@b/c"),
        ("s3://bucket/a?access_key=K&secret_key=S&region=eu-1", "s3://bucket/a?region=eu-1"),
        ("s3://bucket/a?SECRET_KEY=S", "s3://bucket/a"),
        ("s3://bucket/a?endpoint_override=http://u:p@host:9", "s3://bucket/a?endpoint_override=http://host:9"),
        ("s3://bucket/a?endpoint_override=http%3A%2F%2Fu:p@host", "s3://bucket/a?endpoint_override=http://host"),
        ("abfs://box@acc.dfs.core.windows.net/a?sv=2&sig=S%3D", "abfs://box@acc.dfs.core.windows.net/a"),
        ("abfs://box:key@acc.dfs.core.windows.net/a", "abfs://box@acc.dfs.core.windows.net/a"),
        ("abfs://:key@acc.blob.core.windows.net/box/a", "abfs://acc.blob.core.windows.net/box/a"),
        ("see https://h/x?X-Amz-Signature=S, and /local?sig=1", "see https://h/x and /local?sig=1"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("no uri: a@b?c=d", "no uri: a@b?c=d"),
    ],
)
def test_secrets_are_left_out_of_a_uri(uri, expected):
    assert without_secrets(uri) == expected


def test_a_place_is_printed_and_stored_without_its_secrets():
    text = "s3://hiddenkeyid:hiddensecret@bucket/run?region=eu-1&endpoint_override=http://127.0.0.1:9"
    path = StoragePath.of(text) / "report.html"
    for shown in (str(path), path.stored):
        assert shown == "s3://bucket/run/report.html?region=eu-1&endpoint_override=http://127.0.0.1:9"
    assert repr(path) == f"StoragePath({str(path)!r})"
    query = "sv=2024&sig=hiddensecret&dfs_storage_scheme=https"
    with_signature = StoragePath(path.filesystem, "box/run", "abfs", query)
    for shown in (str(with_signature), repr(with_signature), with_signature.stored, f"{with_signature / 'a'}"):
        assert "hidden" not in shown
        assert "dfs_storage_scheme=https" in shown


def test_errors_about_uris_name_no_secrets():
    for text in (
        "s3://a:hidden/secret@bucket/a",
        "s3://hiddenkeyid:hiddensecret@bucket/a?secret_key=hiddensecret",
        "abfs://b@a.x/a?sig=hiddensecret&z",
    ):
        with pytest.raises(FeaturizeError) as error:
            StoragePath.of(text)
        assert "hidden" not in str(error.value)
    assert describe(OSError("GET https://h/b?sig=hiddensecret failed")) == "GET https://h/b failed"


def test_a_recorded_uri_is_reached_with_the_credentials_of_the_run():
    run = StoragePath.of("s3://hiddenkeyid:hiddensecret@bucket/run?region=eu-1")
    features = run.resolve((run.parent / "features").stored)
    assert features.filesystem is run.filesystem
    assert (features.path, features.query) == ("bucket/features", "region=eu-1")


@pytest.mark.parametrize(
    ("music", "features", "roots"),
    [
        ("home/music", "home/run/features", ["../../music", "~/music"]),
        ("home/music", "data/features", ["~/music"]),
        ("mnt/music", "home/features", ["../../mnt/music", "{}/mnt/music"]),
        ("home", "home/features", ["..", "~"]),
    ],
)
def test_the_music_is_found_without_the_name_of_the_home(music, features, roots, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in (music, features):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    folder = StoragePath.of(tmp_path / features)
    write_music(folder, StoragePath.of(tmp_path / music))
    text = (folder / "music.json").read().decode()
    assert str(tmp_path / "home") not in text
    assert [root.format(tmp_path) for root in roots] == json.loads(text)["roots"]
    assert find_music(folder) == StoragePath.of(tmp_path / music)


def found_in(folder: Path, *words: str) -> list[str]:
    """Return the files below a folder that hold one of the words, also if they are compressed."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                table = pq.ParquetFile(path).read()
                names = [name for name in table.column_names if name != "mfcc"]
                content += repr((table.schema.metadata, table.select(names).to_pylist())).encode()
            if path.suffix == ".keras":
                with zipfile.ZipFile(path) as archive:
                    content += b"".join(archive.read(name) for name in archive.namelist())
            found += [f"{word} in {path}" for word in words if word.encode() in content]
    return found


@pytest.mark.matrix
def test_no_output_of_a_run_names_the_home_or_a_secret(music, tmp_path):
    home = tmp_path / "home-of-alice"
    (home / "collection").mkdir(parents=True)
    subprocess.run(["cp", "-r", str(music), str(home / "collection" / "music")], check=True)
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": os.getcwd()}

    def earmark(*arguments, cwd=home):
        command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    earmark("featurize", home / "collection" / "music", "--out", home / "features", *SETTINGS)
    for _ in range(2):  # the second run finds the first one's files
        earmark("train", home / "features", "--out", home / "run", *SETTINGS)
    earmark("evaluate", home / "run")
    earmark("compare", home / "run", home / "run", "--out", home / "compare.html")
    assert "~/features" in (home / "run" / "run.json").read_text()
    for folder in (home / "run", home / "features"):
        assert not found_in(folder, str(home), "home-of-alice")
    assert "home-of-alice" not in (home / "compare.html").read_text()

    with moto_server() as address:
        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket="shared")
        for path in (home / "collection" / "music").rglob("*.*"):
            client.upload_file(str(path), "shared", f"music/{path.relative_to(home / 'collection' / 'music')}")
        place = f"s3://{SECRETS[0]}:{SECRETS[1]}@shared/{{}}?endpoint_override={address}&region=us-east-1"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.pop(name, None)
        printed = earmark("featurize", place.format("music"), "--out", place.format("features"), *SETTINGS)
        for _ in range(2):
            printed += earmark("train", place.format("features"), "--out", place.format("run"), *SETTINGS)
        printed += earmark("evaluate", place.format("run"))
        printed += earmark("status", place.format("run"))
        printed += earmark(
            "compare", place.format("run"), place.format("run"), "--out", place.format("compare.html")
        )
        written = tmp_path / "written"
        for entry in client.list_objects_v2(Bucket="shared")["Contents"]:
            if not entry["Key"].startswith("music/") and not entry["Key"].endswith("/"):
                target = written / entry["Key"]
                target.parent.mkdir(parents=True, exist_ok=True)
                client.download_file("shared", entry["Key"], str(target))
    assert (written / "compare.html").exists()
    assert not [word for word in SECRETS if word in printed]
    assert not found_in(written, *SECRETS, "home-of-alice")
