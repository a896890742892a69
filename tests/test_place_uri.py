"""Places as a user types them: plainly or percent-encoded, and read back from what is shown and recorded."""

import os

import pyarrow.fs as pafs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurize.collection.location import parse_uri
from featurize.errors import FeaturizeError
from featurize.place_uri import decode, encode
from featurize.storage import StoragePath

REGION = "?region=us-east-1"  # otherwise the file system asks the network for the region of the bucket
S3 = pafs.S3FileSystem(region="us-east-1")
CHARACTERS = "aé音 #%?&'\"$`\\;:@~+=*()[]{}<>|!,.-_4142FfÀ\u00a0\u200f\u202e\n\t\x1b"
NAMES = st.text(st.sampled_from(CHARACTERS), min_size=1).filter(lambda name: name not in (".", ".."))
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1)


@given(st.lists(NAMES | ANY, min_size=1, max_size=3))
def test_a_place_in_a_bucket_is_read_back_from_its_text(parts):
    place = StoragePath(S3, "/".join(["bucket", *parts]), "s3", "region=us-east-1")
    assert StoragePath.of(str(place)) == place
    assert StoragePath.of("s3://bucket" + REGION).resolve(place.stored) == place
    assert str(place).isprintable()
    assert not set(str(place).partition("?")[0]) & set(" #&'\"$`\\;*()[]{}<>|!")


@given(NAMES)
def test_a_plainly_typed_name_without_question_marks_and_codes_is_itself(name):
    typed = StoragePath.of(f"s3://bucket/x{name.replace('?', '').replace('%', '')}{REGION}")
    assert typed.path == f"bucket/x{name.replace('?', '').replace('%', '')}"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_encoded_name_is_decoded(name):
    assert decode(encode(name)) == name


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"], exclude_characters="/\0"), min_size=1)
)
def test_a_local_path_is_read_back_from_its_text(name):
    place = StoragePath.of(os.path.join("/music", name))
    assert StoragePath.of(str(place)) == place


@pytest.mark.parametrize(
    "name", ["a#b", "file with %41", "C:", "C:\\music", "x:y", "~", "~user", "end ", " ", "a?b", "%", "s3:", "é音"]
)
def test_local_names_mean_themselves(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = StoragePath.of(f"./{name}")
    assert place.path == str(tmp_path / name)
    assert StoragePath.of(str(place)) == place
    assert StoragePath.of("/elsewhere").resolve(place.stored) == place
    if name.strip():
        assert StoragePath.of(name) == place


@pytest.mark.parametrize("control", ["a\nb", "a\x1b[2Jb", "a\u202eb", os.fsdecode(b"\xff")])
def test_a_recorded_local_path_keeps_what_messages_escape(control):
    place = StoragePath.of(f"/music/{control}")
    assert StoragePath.of("/elsewhere").resolve(place.stored) == place
    assert str(place).isprintable()


def test_a_path_with_a_colon_and_two_slashes_is_no_uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert StoragePath.of("./s3://bucket").path == str(tmp_path / "s3:" / "bucket")
    assert StoragePath.of("/music/a://b").path == "/music/a:/b"


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("s3://bucket/my features", "bucket/my features"),
        ("s3://bucket/my%20features", "bucket/my features"),
        ("s3://bucket/set#2", "bucket/set#2"),
        ("s3://bucket/set%232", "bucket/set#2"),
        ("s3://bucket/100%", "bucket/100%"),
        ("s3://bucket/100%25", "bucket/100%"),
        ("s3://bucket/what%3F", "bucket/what?"),
        ("s3://bucket/%2520", "bucket/%20"),
        ("s3://bucket/é/%C3%A9", "bucket/é/é"),
        ("s3://bucket/end /", "bucket/end "),
        ("s3://key:se%2Fcret@bucket/a b", "bucket/a b"),
    ],
)
def test_both_spellings_lead_to_the_same_place(typed, path):
    assert StoragePath.of(typed + REGION).path == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a?", r"s3://bucket/a cannot be used: \? begins the options.* type %3F"),
        ("s3://bucket/what?/x", r"If \? belongs to the name, type %3F instead"),
        ("s3://bucket/a?region=us-east-1#2", r"\? begins the options"),
        ("s3://bucket/a?region=us-east-1&x=a b", r"\? begins the options"),
        ("s3://bucket/%ff?region=us-east-1", r"the name is not UTF-8\. For a % in a name, type %25"),
        ("s3://bucket/%00?region=us-east-1", "cannot contain NUL"),
        ("s3://bucket:9/x?region=us-east-1", "name of a bucket or a host has letters"),
        ("s3://bücket/x?region=us-east-1", "name of a bucket or a host has letters"),
        ("s3://bucket#2/x?region=us-east-1", "name of a bucket or a host has letters"),
        ("s3://key:se/cret@bucket/x", "a slash in a secret key is typed %2F"),
        ("s3:/bucket/x", r"has one slash after its scheme\. Expected two.* type \./s3:/bucket/x"),
        ("file:///music?a=b", r"a file has no options after \?"),
        ("file://host/music", "followed by an absolute path of this machine"),
    ],
)
def test_what_names_no_place_is_refused_with_a_sentence(text, expected):
    with pytest.raises(FeaturizeError, match=expected) as error:
        StoragePath.of(text)
    assert "cret" not in str(error.value).replace("secret", "")


def test_secrets_are_not_shown_behind_a_space():
    with pytest.raises(FeaturizeError) as error:
        StoragePath.of("ftp://host/a b?password=hidden")
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(("uri", "path"), [("file:///music/a b#1", "/music/a b#1"), ("file:///a%20b%3F", "/a b?")])
def test_a_file_uri_follows_the_same_rule(uri, path):
    assert StoragePath.of(uri) == StoragePath.of(path)


@pytest.mark.parametrize(
    ("typed", "shown", "path"),
    [
        ("abfs://music@acc.dfs.core.windows.net/a b", "abfs://music@acc.dfs.core.windows.net/a%20b", "music/a b"),
        ("abfs://acc.dfs.core.windows.net/music/a b", "abfs://music@acc.dfs.core.windows.net/a%20b", "music/a b"),
        ("abfs://acc:secret@127.0.0.1:10000/music/a", "abfs://acc@127.0.0.1:10000/music/a", "music/a"),
        ("abfs://acc@music/a", "abfs://acc@music/a", "music/a"),
        ("gs://bucket/a b#1", "gs://bucket/a%20b%231", "bucket/a b#1"),
    ],
)
def test_the_account_stays_in_the_text(typed, shown, path):
    place = StoragePath.of(typed)
    assert (str(place), place.path) == (shown, path)
    assert str(StoragePath.of(str(place)) / "x") == f"{shown}/x"
    assert (place / "y").resolve(place.stored).path == path


def test_a_name_node_stays_in_the_text():
    """Needs no Hadoop: the file system of the test is another one."""
    place = StoragePath(pafs.LocalFileSystem(), "/a b", "hdfs", "", "node:9000")
    assert str(place / "c") == "hdfs://node:9000/a%20b/c"
    assert place.resolve("hdfs://node:9000/d%20e") == StoragePath(
        pafs.LocalFileSystem(), "/d e", "hdfs", "", "node:9000"
    )


def test_a_uri_in_a_table_follows_the_same_rule():
    for text in ("s3://bucket/my set#2/100%.mp3", "s3://bucket/my%20set%232/100%25.mp3"):
        assert parse_uri(text).key == "my set#2/100%.mp3"
