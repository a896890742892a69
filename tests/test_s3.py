"""Music, tables, datasets and runs in a bucket, with a local S3 server over HTTP."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from support.command_line import contents, earmark_here

from featurize.audio.filters import Filters
from featurize.collection.catalog import build_catalog
from featurize.collection.found_paths import FolderTree
from featurize.collection.listing import size_of
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import list_shards, read_row_group
from featurize.dataset_build.worker import featurize_track
from featurize.errors import CollectionLostError, DatasetError, FeaturizeError
from featurize.storage import StoragePath

SETTINGS = ["--set", "featurize.tracks_per_shard=3", "--set", "featurize.segments_per_track=4"]


@pytest.fixture(scope="module")
def uploaded(client, uri, music) -> str:
    for path in sorted(music.rglob("*.*")):
        client.upload_file(str(path), "music", f"small/{path.relative_to(music)}")
    client.put_object(Bucket="music", Key="small/bells/._hidden.mp3", Body=b"x")
    client.put_object(Bucket="music", Key="small/.Trash/gone.mp3", Body=b"x")
    client.put_object(Bucket="music", Key="small/notes.txt", Body=b"x")
    return uri("music/small")


def test_a_dataset_in_a_bucket_equals_a_local_one(client, uri, uploaded, features, tmp_path):
    name = "my features #1 (100%) é"
    out = uri(f"music/{name}")
    done = earmark_here("featurize", uploaded, "--out", out, *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert "2 other files were skipped (.txt: 1, system files: 1)." in done.stderr
    found = contents(out)
    assert found.pop("config.yaml")
    assert found == contents(features)
    assert earmark_here("status", out).stdout.startswith("state     complete\nshards    10 of 10 done")
    assert earmark_here("verify", out).stdout.startswith("verified  10 shards, 120 segments")

    remote, local = open_dataset(out), open_dataset(features)
    np.testing.assert_array_equal(read_row_group(remote.shards[3], 0)[0], read_row_group(local.shards[3], 0)[0])

    def written():
        listed = client.list_objects_v2(Bucket="music", Prefix=f"{name}/shards/")["Contents"]
        return {entry["Key"]: entry["LastModified"] for entry in listed}

    gone = f"{name}/shards/{remote.shards[0].name}"
    client.delete_object(Bucket="music", Key=gone)
    with pytest.raises(DatasetError, match=f"{remote.shards[0].name} is missing"):
        open_dataset(out)
    before = written()
    time.sleep(1)  # S3 reports times in whole seconds
    done = earmark_here("featurize", uploaded, "--out", out, *SETTINGS)
    assert done.returncode == 0, done.stderr
    after = written()
    assert after.pop(gone)
    assert after == before
    again = {name: (StoragePath.of(out) / name).read() for name, _ in StoragePath.of(out).files()}
    assert {name: again[name] for name in found} == found


def test_a_table_in_a_bucket_lists_its_tracks_by_name_and_by_uri(client, uri, uploaded, music):
    named = sorted(f"{path.relative_to(music)}" for path in music.glob("reeds/**/*.*"))
    addressed = [f"s3://music/small/{path.relative_to(music)}" for path in sorted(music.glob("bells/*.*"))]
    lines = [f"{path},bells" for path in addressed] + [f"{path},reeds" for path in named]
    client.put_object(Bucket="music", Key="small/t.csv", Body="\n".join(["path,label", *lines]).encode())
    catalog = build_catalog(uri("music/small/t.csv"))
    tracks = {row["track"]: row for row in catalog.tracks.to_pylist()}
    assert len(tracks) == len(addressed) + len(named)
    assert all(
        tracks[name]["size"] == (music / name.removeprefix("s3://music/small/")).stat().st_size for name in tracks
    )
    client.delete_object(Bucket="music", Key="small/t.csv")


def test_files_of_a_bucket_that_no_listing_has_are_asked_for_side_by_side(
    client, uri, uploaded, music, monkeypatch
):
    below = [f"s3://music/small/{path.relative_to(music)}" for path in sorted(music.glob("bells/*.*"))]
    beside = [f"s3://music/elsewhere/{n} (1).mp3" for n in range(4)]
    for path in beside:
        client.put_object(Bucket="music", Key=path.removeprefix("s3://music/"), Body=b"four")
    lines = [f"{path},{label}" for label, paths in (("bells", below), ("others", beside)) for path in paths]
    lines.append("bells/none.mp3,bells")  # the listing tells that it is missing
    client.put_object(Bucket="music", Key="small/t.csv", Body="\n".join(["path,label", *lines]).encode())
    together = Barrier(len(beside), timeout=20)

    def size_of_many(path):
        together.wait()
        return size_of(path)

    monkeypatch.setattr("featurize.collection.sizes.size_of", size_of_many)
    tracks = {row["track"]: row["size"] for row in build_catalog(uri("music/small/t.csv")).tracks.to_pylist()}
    assert tracks == dict.fromkeys(beside, 4) | {"bells/none.mp3": -1} | {
        path: (music / path.removeprefix("s3://music/small/")).stat().st_size for path in below
    }
    client.delete_object(Bucket="music", Key="small/t.csv")


def test_names_without_folders_are_found_in_the_listing_of_a_bucket(client, uri, monkeypatch):
    names = [f"{label}.{n}.mp3" for label in ("jazz", "punk") for n in range(5)]
    for name in names:
        client.put_object(Bucket="music", Key=f"nested/{name[:4]}/{name[5]}/{name}", Body=b"x")
    client.put_object(Bucket="music", Key=f"nested/.trash/{names[0]}", Body=b"x")
    lines = ["path,label", *(f"{name},{name[:4]}" for name in names)]
    client.put_object(Bucket="music", Key="nested/t.csv", Body="\n".join(lines).encode())
    listed, list_folder = [], FolderTree._list
    monkeypatch.setattr(FolderTree, "_list", lambda tree, below: listed.append(below) or list_folder(tree, below))
    tracks = build_catalog(uri("music/nested/t.csv")).tracks["track"].to_pylist()
    assert tracks == [f"{name[:4]}/{name[5]}/{name}" for name in names]
    assert set(listed) == {""}  # no folder below


def test_all_pages_of_a_bucket_are_listed(client, uri):
    keys = [f"many/{label}/{n:04}.mp3" for label in ("jazz", "punk") for n in range(550)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda key: client.put_object(Bucket="music", Key=key, Body=b"x"), keys))
    catalog = build_catalog(uri("music/many"))
    assert [f"many/{track}" for track in catalog.tracks["track"].to_pylist()] == keys


def test_a_large_file_is_streamed_while_it_is_decoded(client, uri, music, tmp_path):
    import soundfile

    path = tmp_path / "long.wav"
    noise = np.random.default_rng(0).integers(-9999, 9999, (44100 * 210, 2), np.int16)
    soundfile.write(path, noise, 44100, subtype="PCM_16")
    assert path.stat().st_size > 32 << 20
    client.upload_file(str(path), "music", "long.wav")
    from featurize.config import FeaturizeConfig
    from featurize.planning.shard_plan import feature_settings

    settings = feature_settings(FeaturizeConfig(segments_per_track=3))
    filters = Filters.from_librosa(settings)
    local, _ = featurize_track(StoragePath.of(path), settings, filters)
    remote, _ = featurize_track(StoragePath.of(uri("music/long.wav")), settings, filters)
    np.testing.assert_array_equal(local, remote)


@pytest.fixture
def secret(client):
    """A bucket that can be listed, but neither read nor written."""
    client.create_bucket(Bucket="secret")
    for label in ("jazz", "punk"):
        for n in range(6):
            client.put_object(Bucket="secret", Key=f"{label}/{n}.mp3", Body=b"x")
    everything = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::secret/*"}
    client.put_bucket_policy(
        Bucket="secret", Policy=json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    )


def test_access_denied_is_an_error_and_not_a_reject(secret, uri, uploaded, ray_here, tmp_path):
    done = earmark_here("featurize", uploaded, "--out", uri("secret/features"), *SETTINGS)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"earmark: cannot write to {uri('secret/features')}: access denied; check the credentials"
    )
    done = earmark_here("featurize", uri("secret"), "--out", tmp_path / "features", *SETTINGS)
    assert done.returncode == 1
    assert "access denied; check the credentials" in done.stderr.splitlines()[-1]
    assert list_shards(tmp_path / "features") == set()


def test_missing_buckets_and_invalid_uris_are_errors(uri, uploaded, ray_here, tmp_path):
    with pytest.raises(FeaturizeError, match="the bucket does not exist"):
        build_catalog(uri("absent/music"))
    with pytest.raises(FeaturizeError, match="does not exist"):
        build_catalog(uri("music/absent"))
    with pytest.raises(FeaturizeError, match=r"names no bucket"):
        build_catalog("s3://")
    with pytest.raises(
        FeaturizeError, match=r"ftp://a/b cannot be used: .* Expected a path, or a URI such as s3://"
    ):
        build_catalog("ftp://a/b")
    done = earmark_here("featurize", uploaded, "--out", uri("absent/features"), *SETTINGS)
    assert done.returncode == 1
    assert "the bucket does not exist" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_run_in_a_bucket_equals_a_local_one(client, uri, features, logical_cpus, tmp_path):
    """Stop and resume: checkpoints, curves, history, model and report are read back from the bucket."""
    from support.training import figures, final_state, stop_when, trained
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from train.errors import Stopped
    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page
    from train.run import Run

    remote = uri("music/run #1 of é%20")
    settings = {"epochs": 3, "model": "modulation", "checkpoint_every": "2 steps", "keep_checkpoints": 2}
    with pytest.raises(Stopped) as stopped:
        trained(features, remote, stop_when(12), **settings)
    status = earmark_here("status", remote).stdout
    assert status.startswith(f"training  unfinished: {len(Run(remote).history())} of 3 epochs")
    assert f"a checkpoint after step {stopped.value.step}" in status
    messages, _ = trained(features, remote, **settings)
    assert f"Resuming after step {stopped.value.step}." in messages[-1]
    trained(features, tmp_path, **settings)
    assert figures(remote) == figures(tmp_path)
    assert final_state(remote) == final_state(tmp_path)
    names = {name.split("/")[0] for name, _ in Run(remote).checkpoints.files()}
    assert names == {path.name for path in (tmp_path / "checkpoints").iterdir()}

    metrics = [evaluate_run(Run(folder), open_dataset(features)) for folder in (remote, tmp_path)]
    assert metrics[0].tracks == metrics[1].tracks
    write_run_page(Run(remote), open_dataset(features))
    assert b"<html" in Run(remote).report.read()
    with Run(remote).tensorboard.at_hand() as curves:
        board = EventAccumulator(str(curves / "train"), size_guidance={"tensors": 0}).Reload()
        assert [point.step for point in board.Tensors("loss")] == [1, 2, 3]
    assert "evaluated tracks accuracy" in earmark_here("status", remote).stdout


def test_a_run_finds_its_dataset_in_a_folder_with_any_name(client, uri, features):
    """Its run.json records the place, which the next command reads."""
    from train.config import TrainConfig
    from train.run import Run

    names = ["my set", "set#2", "100%", "what?", "é & ü", "%20"]
    dataset = StoragePath.of(features)
    bucket = StoragePath.of(uri("music"))
    for name in names:
        for file, _ in dataset.files():
            (bucket / "any" / name / file).write((dataset / file).read())
        place = StoragePath.of(str(bucket / "any" / name))
        Run(bucket / "runs" / name).begin(open_dataset(place), TrainConfig())
        again = Run(str(bucket / "runs" / name)).features()
        assert again == place
        assert open_dataset(again).id == open_dataset(features).id
        inside = bucket / "any" / name
        Run(inside.parent).begin(open_dataset(place), TrainConfig())
        assert Run(inside.parent).features() == place
        (inside.parent / "run.json").remove()


@pytest.mark.slow
def test_an_unreachable_endpoint_is_an_error_and_not_a_reject(server, music):
    from featurize.config import FeaturizeConfig
    from featurize.planning.shard_plan import feature_settings

    path = StoragePath.of("s3://music/small/bells/0-0.mp3?endpoint_override=http://127.0.0.1:9")
    settings = feature_settings(FeaturizeConfig())
    with pytest.raises(CollectionLostError, match="the endpoint does not answer"):
        featurize_track(path, settings, Filters.from_librosa(settings))
