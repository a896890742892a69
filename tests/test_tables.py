"""Tables from strangers: where their rows may point, and what a small file may make of the memory."""

import json
import os
import pickle
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from support.command_line import earmark_here
from support.logs import logged

from featurize.collection import sizes
from featurize.collection.catalog import build_catalog
from featurize.collection.layouts.readers import find_source
from featurize.collection.location import locate
from featurize.collection.manifest import TableRequest
from featurize.dataset.dataset import open_dataset
from featurize.dataset.footer import read_rejects
from featurize.dataset.reader import list_shards
from featurize.errors import FeaturizeError, Reject
from featurize.execution.child_process import ChildProcess
from featurize.execution.limits import limited
from featurize.execution.table_reading import read_table_apart
from featurize.storage import StoragePath
from jobs.commands.app import app
from jobs.config import load_config
from jobs.remote.remote_command import read_command
from jobs.terminal.status import progress_lines

# A separate process, since the largest child of the tests' process may be any program that they ran before. For
# itself, `getrusage` is no measure: its maximum begins with the memory of the process that started it.
READ_TABLE = """
import json, re, resource, sys
from featurize.collection.layouts.readers import find_source
from featurize.collection.manifest import TableRequest
from featurize.execution.table_reading import read_table_apart
from featurize.storage import StoragePath

table = read_table_apart(find_source(StoragePath.of(sys.argv[1]), None, False), TableRequest()).table
own = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
largest = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(json.dumps([table.column_names, table.num_rows, largest]))
"""


def test_the_rows_of_a_table_do_not_pass_through_a_pipe(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_bytes(rows_of([f"{n:0100}.wav" for n in range(2000)]))
    sent = []

    class Counted(ChildProcess):
        def receive(self, timeout):
            sent.append(super().receive(timeout))
            return sent[-1]

    monkeypatch.setattr("featurize.execution.table_reading.ChildProcess", Counted)
    source = find_source(StoragePath.of(tmp_path / "t.csv"), None, False)
    assert len(read_table_apart(source, TableRequest()).table) == 2010
    assert [len(pickle.dumps(message.value)) < 10_000 for message in sent] == [True]


def rows_of(extra: list[str], folder: str = "") -> bytes:
    """A CSV table of ten ordinary tracks in two classes, and of one track for each extra path."""
    ordinary = [f"{folder}{label}/{n}.wav,{label}" for label in ("jazz", "punk") for n in range(5)]
    return "\n".join(["path,label", *ordinary, *(f"{path},jazz" for path in extra)]).encode()


@pytest.fixture
def table(tmp_path):
    def write(*extra: str) -> str:
        (tmp_path / "t.csv").write_bytes(rows_of(list(extra)))
        return str(tmp_path / "t.csv")

    return write


@pytest.fixture
def listener():
    """A server on this machine; the list of connections to it."""
    connections: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connections.append(connection.recv(1 << 16))

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", connections
        server.shutdown(socket.SHUT_RDWR)


def test_a_row_cannot_choose_a_server_or_an_account(table, listener, tmp_path):
    address, connections = listener
    paths = [
        f"s3://music/x.wav?endpoint_override=http://{address}",
        f"s3://music/x.wav#?endpoint_override=http://{address}",
        f"s3://key:secret@music/x.wav?endpoint_override={address}&scheme=http",
        "s3://key:secret@music/x.wav",
        "abfs://container:password@account/x.wav",
    ]
    done = earmark_here("featurize", table(*paths), "--out", tmp_path / "out", "--allow-bucket", "music")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "  - 5 rows have a URI with options or credentials, which a row must not set: line 12, 13, 14, 15, 16"
    )
    assert connections == []
    assert not (tmp_path / "out" / "tracks.parquet").exists()


def test_all_rows_that_must_not_be_read_are_listed_together(table):
    table_path = table(
        "s3://one/a.wav",
        "s3://one/b.wav",
        "gs://two/a.wav",
        "http://host/x.wav",
        "s3://one/../x",
        "s3://one//etc/x",
    )
    with pytest.raises(FeaturizeError) as refused:
        build_catalog(table_path)
    assert str(refused.value).splitlines()[1:] == [
        "  - 1 rows have a web address; download the files, and write their paths into the table: line 15",
        "  - 2 rows have a URI that names no file in a bucket: line 16, 17",
        "  - 2 rows have a file in s3://one; if you trust it, add --allow-bucket one: line 12, 13",
        "  - 1 rows have a file in gs://two; if you trust it, add --allow-bucket two: line 14",
    ]
    with pytest.raises(FeaturizeError, match="--allow-bucket 'a/b' is not the name of a bucket"):
        build_catalog(table_path, ["a/b"])


def test_a_local_table_names_local_files_anywhere(table, tmp_path):
    inside, outside = "jazz/../a b.wav", str(tmp_path.parent / "elsewhere.wav")
    inside_uri, outside_uri = f"file://{tmp_path}/c%20d.wav", f"file://{tmp_path.parent}/e%20f.wav"
    (tmp_path / "c d.wav").write_bytes(b"x")
    catalog = build_catalog(table(inside, outside, inside_uri, outside_uri))
    assert {"a b.wav", outside, "c d.wav", outside_uri} <= set(catalog.tracks["track"].to_pylist())
    assert locate(catalog.root, outside_uri).local == tmp_path.parent / "e f.wav"


def test_a_table_in_a_bucket_names_no_local_file_and_leaves_neither_folder_nor_bucket(client, uri):
    paths = ["/etc/passwd", "file:///etc/passwd", "../x.wav", "a//etc/passwd", "./x.wav", "s3://music2/x.wav"]
    client.put_object(Bucket="music", Key="strange/t.csv", Body=rows_of(paths))
    with pytest.raises(FeaturizeError) as refused:
        build_catalog(uri("music/strange/t.csv"))
    assert str(refused.value).splitlines()[1:] == [
        "  - 2 rows have a local path, which a table in a bucket must not name: line 12, 13",
        "  - 3 rows have a path with an empty part, '.' or '..', which a bucket cannot have: line 14, 15, 16",
        "  - 1 rows have a file in s3://music2; if you trust it, add --allow-bucket music2: line 17",
    ]


def test_a_table_in_a_bucket_names_files_of_its_bucket_and_of_allowed_ones_at_the_same_server(client, uri):
    client.create_bucket(Bucket="music2")
    for bucket, key in (("music", "far/x y.wav"), ("music2", "x.wav"), ("music", "near/z.wav")):
        client.put_object(Bucket=bucket, Key=key, Body=b"12345")
    paths = ["s3://music/far/x%20y.wav", "s3://music2/x.wav", "z.wav", "s3://music2/absent.wav"]
    client.put_object(Bucket="music", Key="near/t.csv", Body=rows_of(paths))
    catalog = build_catalog(uri("music/near/t.csv"), ["music2"])
    size_of = dict(zip(*(catalog.tracks[name].to_pylist() for name in ("track", "size")), strict=True))
    assert [size_of[path] for path in paths] == [5, 5, 5, -1]
    assert [locate(catalog.root, path).read() for path in paths[:3]] == [b"12345"] * 3
    assert catalog.unreachable == frozenset()


def test_a_bucket_that_does_not_answer_makes_rejects_and_not_the_end(music, ray_here, tmp_path, monkeypatch):
    from featurize.config import FeaturizeConfig
    from featurize.dataset_build.driver import featurize

    monkeypatch.setattr(sizes, "_SECONDS_TO_ANSWER", 0.5)
    names = sorted(str(path) for path in music.rglob("*.*") if path.parent.parent == music)
    lines = [f"{name},{name.removeprefix(str(music)).split('/')[1]}" for name in names]
    (tmp_path / "t.csv").write_text(
        "\n".join(["path,label", *lines, "s3://lost/x.wav,bells", "s3://lost/y.wav,bells"])
    )
    with socket.create_server(("127.0.0.1", 0)) as silent, logged("featurize") as messages:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        config = FeaturizeConfig(group_by="none", segments_per_track=1)
        summary = featurize(str(tmp_path / "t.csv"), tmp_path / "out", config, allowed_buckets=["lost"])
    assert (summary.tracks, summary.rejected) == (len(names) + 2, 2)
    assert (
        "2 tracks are in buckets that cannot be reached, and are rejected (s3://lost: no answer in 0.5 s)."
        in messages
    )
    out = StoragePath.of(tmp_path / "out")
    rejects = {r.path: (r.stage, r.reason) for name in list_shards(out) for r in read_rejects(out, name)}
    assert rejects == dict.fromkeys(["s3://lost/x.wav", "s3://lost/y.wav"], ("open", "unreachable"))


def test_a_table_of_which_no_bucket_answers_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    (tmp_path / "t.csv").write_bytes(rows_of([], "s3://lost/"))
    with pytest.raises(
        FeaturizeError, match="no track of the table can be reached: s3://lost: the endpoint does not"
    ):
        build_catalog(str(tmp_path / "t.csv"), ["lost"])


def test_submit_sends_the_allowed_buckets():
    words = ["run", "s3://b/t.csv", "--out", "s3://b/run", "--allow-bucket", "one", "--allow-bucket", "two"]
    command = read_command(typer.main.get_command(app).commands, words)
    assert " ".join(command.arguments).count("--allow-bucket one --allow-bucket two") == 1
    command = read_command(typer.main.get_command(app).commands, words[:4])
    assert "--allow-bucket" not in command.arguments


def test_keys_that_cannot_be_joined_are_rejects_and_never_other_files(client, uri, music, ray_here, tmp_path):
    secret = next(music.glob("bells/*.wav"))
    for path in sorted(music.glob("*/*.*")):
        client.upload_file(str(path), "music", f"odd/{path.relative_to(music)}")
    unsafe = ["bells//x.wav", "bells/../reeds/1-0.flac", f"bells/{secret}", "bells/s3://other/x.wav"]
    classless = [str(secret), "s3://other/x.wav", "../reeds/x.wav"]
    for key in (*unsafe, *classless):
        client.put_object(Bucket="music", Key=f"odd/{key}", Body=b"x")
    settings = ["--set", "featurize.segments_per_track=1", "--set", "featurize.max_reject_fraction=1"]
    done = earmark_here("featurize", uri("music/odd"), "--out", tmp_path / "out", *settings)
    assert done.returncode == 0, done.stderr
    out = StoragePath.of(tmp_path / "out")
    rejects = {r.path: (r.stage, r.reason) for name in list_shards(out) for r in read_rejects(out, name)}
    assert rejects == dict.fromkeys(unsafe, ("open", "unsafe name"))
    assert open_dataset(out).tracks().num_rows == len(list(music.glob("*/*.*"))) + len(unsafe)
    skipped = next(line for line in done.stderr.splitlines() if "cannot be joined" in line)
    assert "3 files were skipped" in skipped
    assert all(repr(name) in skipped for name in classless)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "a//b", "../x", "http://host/x", "file:///etc/passwd", "a\0b"]
)
def test_a_worker_of_a_bucket_opens_no_such_path(path):
    with pytest.raises(Reject) as rejected:
        locate(StoragePath.of("s3://bucket/music?region=us-east-1"), path)
    assert rejected.value.reason == "unsafe name"


def test_only_columns_with_a_role_are_read(tmp_path):
    columns = {"path": [f"{n}.wav" for n in range(4000)], "label": ["jazz", "punk"] * 2000}
    unneeded = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({**columns, "notes": unneeded}), tmp_path / "t.parquet", compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    with (tmp_path / "t.csv").open("w") as csv:
        csv.write("path,notes,label\n" + "".join(f"{n}.wav,{n if n < 3000 else 'x'},jazz\n" for n in range(4000)))
    for name in ("t.parquet", "t.csv"):
        done = subprocess.run(
            [sys.executable, "-c", READ_TABLE, str(tmp_path / name)], stdout=subprocess.PIPE, text=True
        )
        columns, rows, kib = json.loads(done.stdout)
        assert (columns, rows) == (["path", "label"], 4000)
        assert kib < 3 << 20  # four billion bytes otherwise


def _write(folder, name: str):
    """A table that is large, or not text, in one of many ways."""
    path = folder / name
    count = 4000
    if name == "repeated.parquet":
        cells = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["x" * 1_000_000]))
        pq.write_table(pa.table({"path": cells, "label": ["jazz"] * count}), path, compression="zstd")
    elif name == "prefixes.parquet":  # each cell is stored as the length of what it shares with the one before
        cells = pa.array([f"{'x' * 100_000}{n}" for n in range(300)])
        options = {"use_dictionary": False, "column_encoding": {"path": "DELTA_BYTE_ARRAY"}}
        pq.write_table(
            pa.table({"path": cells}).append_column("label", pa.array(["jazz"] * 300)),
            path,
            **{
                **options,
                "column_encoding": {"path": "DELTA_BYTE_ARRAY", "label": "PLAIN"},
                "compression": "zstd",
            },
        )
    elif name == "plain.parquet":
        cells = pa.array(["x" * 50_000_000] * 3)
        pq.write_table(
            pa.table({"path": cells, "label": ["jazz"] * 3}), path, compression="zstd", use_dictionary=False
        )
    elif name == "line.csv":
        path.write_bytes(b"path,label\n" + b"x" * (17 << 20))
    elif name == "header.csv":
        path.write_bytes(b"x" * (17 << 20))
    elif name == "cell.csv":
        path.write_bytes(b"path,label\n" + b"x" * 9000 + b",jazz\n")
    elif name == "quoted.csv":
        path.write_bytes(b'path,label\n"' + b"x,\n" * (2 << 20))
    elif name == "nul.csv":
        path.write_bytes(rows_of(["a\0b"]))
    elif name == "binary.csv":
        path.write_bytes(b"path,label\n\x81\x8d,jazz\n")
    elif name == "columns.csv":
        path.write_bytes(b"path,label" + b",x" * 20_000 + b"\n")
    elif name == "twice.csv":
        path.write_bytes(b"path,label,path\na,b,c\n")
    elif name == "deep.jsonl":
        path.write_bytes(b'{"path": ' + b"[" * 100_000 + b"}\n")
    elif name == "digits.jsonl":
        path.write_bytes(b'{"path": "x", "label": ' + b"9" * 9000 + b"}\n")
    elif name == "line.jsonl":
        path.write_bytes(b'{"path": "' + b"x" * (17 << 20))
    elif name == "surrogate.jsonl":
        path.write_text(json.dumps({"path": "\ud800", "label": "x"}))
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("repeated.parquet", "a cell of the column path has 1,000,000 bytes"),
        ("prefixes.parquet", "a cell of the column path has 100,00. bytes"),
        ("plain.parquet", "the column path has 150,0.* bytes in 3 rows"),
        ("line.csv", "line 2 is longer than"),
        ("header.csv", "line 1 is longer than"),
        ("cell.csv", "a cell of the column path has 9,000 bytes"),
        ("quoted.csv", "cannot be read as a csv table"),
        ("nul.csv", "line 12 has the character NUL"),
        ("binary.csv", "it is text neither in UTF-8 .* nor in Windows-1252"),
        ("columns.csv", "it has 20,002 columns"),
        ("twice.csv", "it has the column path more than once"),
        ("deep.jsonl", "cannot be read as a jsonl table: line 1"),
        ("digits.jsonl", "a cell of the column label has 9,000 bytes"),
        ("line.jsonl", "line 1 is longer than"),
        ("surrogate.jsonl", "cannot be read as a jsonl table"),
    ],
)
def test_a_table_that_is_no_table_of_tracks_is_refused_with_a_sentence(name, expected, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = _write(tmp_path, name)
    written = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FeaturizeError, match=expected) as refused:
        build_catalog(str(path))
    assert len(str(refused.value)) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - max(before, written) < 300 << 10  # KiB


def test_a_child_process_gets_no_more_memory_than_its_limit():
    """Whatever a file claims about its size, reading it takes no more."""
    for size, expected in ((1 << 20, "returned"), (1 << 30, "raised")):
        with ChildProcess(*limited(256 << 20, bytes, size)) as child:
            kind, value = child.receive(60)
        assert kind == expected
    assert isinstance(value, MemoryError)


@pytest.mark.parametrize("name", ["t.csv", "music"])
def test_a_pipe_given_as_the_collection_is_refused_at_once(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FeaturizeError, match="is neither a folder nor a table"):
        build_catalog(str(tmp_path / name))


@pytest.mark.parametrize("name", ["tracks.csv", "metadata.csv", "annotations_final.csv", "autotagging.tsv"])
def test_a_pipe_in_place_of_the_table_of_a_published_dataset_is_not_waited_for(name, tmp_path):
    (tmp_path / "fma_metadata").mkdir()
    for folder in (tmp_path, tmp_path / "fma_metadata"):
        os.mkfifo(folder / name)
    with ChildProcess(build_catalog, str(tmp_path)) as child:
        assert child.receive(60)[0] == "raised"


@pytest.mark.parametrize("times", [1, 100])  # a repeated value is stored once
def test_text_of_a_parquet_table_that_is_not_utf8_is_named_with_its_row(times, tmp_path):
    latin = pa.array([b"a.mp3", b"Beyonc\xe9.mp3", b"c.mp3"] * times)
    path = pa.StringArray.from_buffers(len(latin), *latin.buffers()[1:])
    pq.write_table(pa.table({"path": path, "label": ["x"] * len(path)}), tmp_path / "t.parquet")
    problem = r"the column path is no UTF-8 text: row 2 has 'Beyonc\\\\xe9\.mp3'"
    with pytest.raises(FeaturizeError, match=problem):
        build_catalog(str(tmp_path / "t.parquet"))


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "dataset.json", "tracks.parquet", "metrics.json"])
def test_a_pipe_in_place_of_a_file_of_a_run_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with ChildProcess(progress_lines, StoragePath.of(tmp_path)) as child:
        assert child.receive(60)[0] in ("raised", "returned")


def test_the_settings_may_come_through_a_pipe(tmp_path):
    read, write = os.pipe()
    os.write(write, b"train:\n  epochs: 3\n")
    os.close(write)
    assert load_config(Path(f"/dev/fd/{read}"), []).train.epochs == 3
    os.close(read)
