"""Paths of files and folders on this machine and in a bucket; a file is written completely or not at all."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from featurize.errors import FeaturizeError, UnsafeNameError
from featurize.local_files import write_whole
from featurize.processes import is_abandoned, temporary_name
from featurize.storage import StoragePath, describe


@pytest.fixture(params=["local", "s3"])
def path(request, tmp_path):
    """A folder that does not exist yet, on this machine or in a bucket."""
    if request.param == "local":
        return StoragePath.of(tmp_path / "folder")
    request.getfixturevalue("client")
    uri = request.getfixturevalue("uri")
    return StoragePath.of(uri(f"music/{tmp_path.name}"))


def test_a_path_is_absolute_and_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("a/b.MP3", Path("a/b.MP3"), "a/./c/../b.MP3", tmp_path / "a" / "b.MP3", "a/b.MP3/"):
        path = StoragePath.of(text)
        assert (path.path, path.scheme, path.query) == (str(tmp_path / "a" / "b.MP3"), "", "")
        assert str(path) == str(tmp_path / "a" / "b.MP3")
        assert path.local == tmp_path / "a" / "b.MP3"
        assert path.suffix == ".mp3"
        assert str(path.parent) == str(tmp_path / "a")


def test_a_storage_path_or_its_text_gives_the_same_path(tmp_path):
    path = StoragePath.of(tmp_path)
    assert StoragePath.of(path) is path
    assert StoragePath.of(str(path)) == path


def test_a_file_uri_is_a_path_on_this_machine(tmp_path):
    path = StoragePath.of(f"file://{tmp_path}/a")
    assert (path.local, str(path)) == (tmp_path / "a", f"{tmp_path}/a")


def test_a_uri_keeps_its_scheme_and_its_query():
    text = "s3://bucket/a/b.mp3?endpoint_override=http://127.0.0.1:9"
    path = StoragePath.of(text)
    assert (path.path, path.scheme, path.query) == (
        "bucket/a/b.mp3",
        "s3",
        "endpoint_override=http://127.0.0.1:9",
    )
    assert path.local is None
    assert str(path) == text
    assert StoragePath.of(str(path)) == path
    assert str(path.parent) == "s3://bucket/a?endpoint_override=http://127.0.0.1:9"


def test_a_slash_at_the_end_of_a_uri_is_removed():
    assert str(StoragePath.of("s3://bucket/a/?region=us-east-1")) == "s3://bucket/a?region=us-east-1"
    assert str(StoragePath.of("s3://bucket?region=us-east-1")) == "s3://bucket?region=us-east-1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://?region=us-east-1", r"names no bucket|cannot be used"),
        ("ftp://host/folder", r"ftp://host/folder cannot be used: .* Expected a path, or a URI such as s3://"),
        ("http://host/folder", r"http://host/folder cannot be used"),
        ("s3://bucket/a?no_such_option=1", r"cannot be used: .*no_such_option"),
    ],
)
def test_an_unsupported_uri_is_refused(text, expected):
    with pytest.raises(FeaturizeError, match=expected):
        StoragePath.of(text)


def test_a_name_is_appended_to_a_path(tmp_path):
    assert str(StoragePath.of(tmp_path) / "a" / "b c.mp3") == f"{tmp_path}/a/b c.mp3"
    assert str(StoragePath.of("/") / "a") == "/a"
    query = "region=us-east-1"
    assert str(StoragePath.of(f"s3://bucket/a?{query}") / "b" / "c") == f"s3://bucket/a/b/c?{query}"


@pytest.mark.parametrize("name", ["/etc/x", "a//b", "../x", "a/../../x", "a/.", "s3://other/x", "a/", "", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(name, tmp_path):
    for folder in (tmp_path, "s3://bucket/a?region=us-east-1"):
        with pytest.raises(UnsafeNameError, match="is not the name of a file below"):
            StoragePath.of(folder) / name


def test_a_recorded_place_may_be_elsewhere_but_never_sets_an_endpoint(tmp_path):
    bucket, local = StoragePath.of("s3://bucket/run?region=us-east-1"), StoragePath.of(tmp_path)
    assert bucket.resolve(str(tmp_path / "b")).local == tmp_path / "b"
    assert local.resolve("features").local == tmp_path / "features"
    assert local.resolve(".") == local
    assert str(bucket.resolve("features")) == "s3://bucket/run/features?region=us-east-1"
    evil = "s3://other/x?endpoint_override=http://127.0.0.1:9"
    assert str(bucket.resolve(evil)) == "s3://other/x?region=us-east-1"
    with pytest.raises(UnsafeNameError):
        local.resolve("../x")


def test_a_copy_of_a_bucket_writes_nothing_outside_its_folder(client, uri, tmp_path):
    client.put_object(Bucket="music", Key=f"model/{tmp_path}/planted", Body=b"x")
    with pytest.raises(UnsafeNameError):
        StoragePath.of(uri("music/model")).copy_to(tmp_path / "copy")
    assert not (tmp_path / "planted").exists()


def test_only_a_regular_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"content")
    with StoragePath.of(tmp_path / "file").open() as file:
        assert file.read() == b"content"
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="not a regular file"):
            StoragePath.of(tmp_path / name).open()


def test_names_that_are_not_utf_8_are_written_and_listed(tmp_path):
    folder = StoragePath.of(tmp_path)
    name = os.fsdecode(b"\xff.mp3")
    (folder / name).write(b"content")
    assert list(folder.files()) == [(name, 7)]
    assert (folder / name).read() == b"content"


def test_written_content_is_read_back(path):
    file = path / "deep" / "er" / "file.bin"
    assert not file.is_file()
    assert not path.is_folder()
    for content in (b"first", b"", pa.py_buffer(b"from Arrow")):
        file.write(content)
        assert file.read() == bytes(content)
        assert file.is_file()
        assert not file.is_folder()
        assert path.is_folder()
        assert not path.is_file()
    assert list(path.files()) == [("deep/er/file.bin", 10)]


def test_a_missing_file_cannot_be_read_but_can_be_removed(path):
    with pytest.raises(FileNotFoundError):
        (path / "gone").read()
    (path / "gone").remove()
    path.remove_folder()
    path.remove_leftovers()
    assert list(path.files()) == []


def test_files_at_any_depth_are_listed_with_their_sizes(path):
    sizes = {"a": 1, "b/a": 2, "b/.hidden": 3, "b/c/d e.mp3": 4, ".h/x": 5}
    for name, size in sizes.items():
        (path / name).write(bytes(size))
    assert dict(path.files()) == sizes
    assert dict((path / "b").files()) == {"a": 2, ".hidden": 3, "c/d e.mp3": 4}


def test_links_to_files_are_listed_and_links_to_folders_are_not_followed(tmp_path):
    folder = StoragePath.of(tmp_path)
    (folder / "a/file").write(b"12")
    (tmp_path / "link").symlink_to("a/file")
    (tmp_path / "around").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to("gone")
    assert dict(folder.files()) == {"a/file": 2, "link": 2}


def test_a_file_or_a_folder_is_removed(path):
    for name in ("a", "b/c", "b/d"):
        (path / name).write(b"x")
    (path / "b/d").remove()
    assert sorted(name for name, _ in path.files()) == ["a", "b/c"]
    (path / "b").remove_folder()
    assert list(path.files()) == [("a", 1)]


def test_a_local_copy_is_removed_afterwards(path):
    for name, content in {"model/a": b"1", "model/b/c": b"22"}.items():
        (path / name).write(content)
    with (path / "model").at_hand() as folder:
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert found == {"a": b"1", "b/c": b"22"}
    with (path / "model/a").at_hand() as file:
        assert file.name == "a"
        assert file.read_bytes() == b"1"
    is_local = path.local is not None
    assert folder.exists() == file.exists() == is_local
    if is_local:
        assert folder == path.local / "model"


GONE = """
from featurize.processes import temporary_name
print(temporary_name())
"""


def gone_name() -> str:
    """Return the name of a temporary file of a process that has ended."""
    return subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True, check=True).stdout.strip()


def test_only_temporary_files_of_processes_that_are_gone_are_removed(tmp_path):
    folder, gone, own = StoragePath.of(tmp_path), gone_name(), temporary_name()
    pid, started = own.split("-")[-3:-1]
    others = [
        "a.parquet",
        "b/.hidden",
        "b/c.tmp",
        ".lock",
        ".syncthing.x.tmp",
        ".mine.tmp",
        f".a.parquet.{'0' * 32}.tmp",
        ".earmark-notes.tmp",
        ".earmark-host-1-2-3.tmp",
        gone.removeprefix("."),
        f"{gone}.bak",
        own,
        f"b/{gone}/file",  # a folder with such a name is not removed
        gone.replace("-", "-other", 1),  # of another machine
    ]
    reused = own.replace(f"-{pid}-{started}-", f"-{pid}-{int(started) - 1}-")
    for name in [*others, f"c/{gone}", f"d/e/{reused}"]:
        (folder / name).write(b"x")
    folder.remove_leftovers()
    assert sorted(name for name, _ in folder.files()) == sorted(others)


def test_a_temporary_file_of_another_machine_is_removed_after_a_day(tmp_path):
    names = [gone_name().replace("-", "-other", 1) for _ in range(2)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / names[0], (0, time.time() - 86_500))
    StoragePath.of(tmp_path).remove_leftovers()
    assert os.listdir(tmp_path) == [names[1]]


def test_a_zombie_is_gone(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", GONE], stdout=subprocess.PIPE, text=True)
    name = child.stdout.readline().strip()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_abandoned(name, time.time())
    child.communicate()
    assert is_abandoned(name, time.time())
    assert not is_abandoned(temporary_name(), 0.0)


def test_a_long_name_is_written(tmp_path):
    StoragePath.of(tmp_path / ("n" * 255)).write(b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_a_bucket_has_no_leftovers(client, uri):
    folder = StoragePath.of(uri("music/leftovers"))
    name = gone_name()
    (folder / name).write(b"x")
    folder.remove_leftovers()
    assert list(folder.files()) == [(name, 1)]


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_path_is_refused(text):
    with pytest.raises(FeaturizeError, match="an empty text is no path"):
        StoragePath.of(text)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interrupted_write_keeps_the_earlier_file(step, tmp_path, monkeypatch):
    file = StoragePath.of(tmp_path / "file")
    file.write(b"before")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        file.write(b"after")
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "deep" / "another", b"after")
    monkeypatch.undo()
    assert list(StoragePath.of(tmp_path).files()) == [("file", 6)]
    assert file.read() == b"before"


KILLED = """
import os, signal, sys
from pathlib import Path
from featurize.processes import is_abandoned, temporary_name
from featurize.local_files import write_whole
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]), b"after")
"""


def test_the_leftover_of_a_killed_write_is_removed(tmp_path):
    file = StoragePath.of(tmp_path / "file")
    file.write(b"before")
    done = subprocess.run([sys.executable, "-c", KILLED, file.path], check=False)
    assert done.returncode == -9
    names = sorted(name for name, _ in StoragePath.of(tmp_path).files())
    assert len(names) == 2
    assert names[1] == "file"
    assert names[0].startswith(".earmark-")
    StoragePath.of(tmp_path).remove_leftovers()
    assert list(StoragePath.of(tmp_path).files()) == [("file", 6)]
    assert file.read() == b"before"


def test_a_write_to_a_full_disk_raises_and_leaves_nothing(tmp_path, monkeypatch):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    opened = open
    monkeypatch.setattr("builtins.open", lambda path, mode: opened(full, "wb", buffering=0))
    with pytest.raises(OSError, match="No space left on device") as error:
        write_whole(tmp_path / "file", b"content")
    monkeypatch.undo()
    assert describe(error.value) == f"No space left on device ({tmp_path / 'file'})"
    assert list(tmp_path.iterdir()) == []


def test_on_other_file_systems_a_file_is_renamed_when_complete(tmp_path):
    """HDFS and others show a file while it is being written."""
    subtree = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    folder = StoragePath(subtree, "folder", "hdfs")
    (folder / "a/file").write(b"content")
    assert (folder / "a/file").read() == b"content"
    assert list(folder.files()) == [("a/file", 7)]
    (folder / f"a/{gone_name()}").write(b"x")
    folder.remove_leftovers()
    assert list(folder.files()) == [("a/file", 7)]


@pytest.mark.parametrize(("variable", "threads"), [({}, 64), ({"ARROW_IO_THREADS": "9"}, 9)])
def test_a_bucket_gets_more_io_threads_unless_arrows_variable_sets_them(variable, threads):
    code = (
        "import pyarrow; from featurize.filesystems import connect;"
        "connect('/tmp'); print(pyarrow.io_thread_count());"
        "connect('s3://bucket/x?endpoint_override=http://127.0.0.1:9'); print(pyarrow.io_thread_count())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_IO_THREADS"} | variable
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after == threads
    assert before == (threads if variable else 8)


def test_a_missing_bucket_has_a_plain_message(client, uri):
    with pytest.raises(OSError, match="NO_SUCH_BUCKET") as error:
        (StoragePath.of(uri("no-such-bucket/folder")) / "file").write(b"x")
    assert describe(error.value) == "the bucket does not exist"


def test_a_file_error_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        (StoragePath.of(tmp_path) / "gone").read()
    assert describe(error.value) == f"No such file or directory ({tmp_path}/gone)"


def test_an_error_names_the_file_and_not_its_temporary_one(tmp_path, monkeypatch):
    """On a read-only disk, not even a missing file can be removed."""

    def refuse(path, *arguments, **more):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as error:
        write_whole(tmp_path / "file", b"content")
    monkeypatch.undo()
    assert describe(error.value) == f"Read-only file system ({tmp_path / 'file'})"
