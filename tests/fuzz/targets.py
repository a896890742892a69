"""What is fuzzed: how seeds are made, how an input is read, and which exceptions say what is wrong with it."""

import dataclasses
import gzip
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from hostile.encoders import ape_tag, id3_tag, id3_text_frame
from support.audio import CODECS, encode, encode_av, encode_with_tags

from featurize.audio.load import load
from featurize.collection.layouts.readers import find_source
from featurize.collection.manifest import read_table
from featurize.collection.tags import read_tag
from featurize.dataset.dataset import open_dataset
from featurize.dataset.info import read_info
from featurize.dataset.reader import read_row_group, read_track_ids
from featurize.dataset_build.verify import read_status
from featurize.errors import EarmarkError, Reject
from featurize.storage import StoragePath
from jobs.config import JobConfig, load_config, to_yaml
from train.run import Run

Seeds = Mapping[str, bytes]


@dataclasses.dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        seeds: Makes valid files by relative path, from a dataset folder and a run folder; one of them is damaged.
        read: Reads what a folder with all the files holds; then come the path
            of the damaged file and an undamaged dataset.
        expected: Exceptions that say what is wrong with the input.
        contained: Whether Earmark, too, reads this in a child process, whose crash is an error message. Arrow ends
            the process for some Parquet files ("Definition level histogram size mismatch").
    """

    seeds: Callable[[Path, Path], Seeds]
    read: Callable[[Path, Path, Path], object]
    expected: tuple[type[Exception], ...]
    contained: bool = False


def _audio(features: Path, run: Path) -> Seeds:
    rng = np.random.default_rng(1)
    return {
        f"tone{suffix}": encode(0.3 * rng.standard_normal(8 * 22050), 22050, suffix)
        for suffix in (".mp3", ".flac", ".ogg", ".wav", ".aiff")
    }


def _readable(features: Path, run: Path) -> Seeds:
    """Files for both readers: those of libsndfile, and containers that only FFmpeg reads."""
    noise = (0.3 * np.random.default_rng(1).standard_normal(8 * 44100)).astype(np.float32)
    only_ffmpeg = {
        "aac": ("adts", "aac"),
        "m4a": ("ipod", "aac"),
        "mka": ("matroska", "alac"),
        "tta": ("tta", "tta"),
    }
    return {**_audio(features, run)} | {
        f"noise.{suffix}": encode_av(noise, 44100, container, codec)
        for suffix, (container, codec) in only_ffmpeg.items()
    }


def _tagged(features: Path, run: Path) -> Seeds:
    tags = {"artist": "An Artist;Another", "album": "An Album"}
    tagged = {f"tagged{suffix}": encode_with_tags(suffix, tags) for suffix in CODECS}
    mp3 = _audio(features, run)["tone.mp3"]
    frames = id3_text_frame(b"TPE1", b"An Artist\0Another") + id3_text_frame(b"TALB", b"An Album")
    return {
        **tagged,
        "id3.mp3": id3_tag(frames) + mp3,
        "ape.mp3": mp3 + ape_tag(1, b"An Artist\0Another"),
    }


def _tables(features: Path, run: Path) -> Seeds:
    table = pa.table(
        {
            "path": [f"music/{i}.mp3" for i in range(50)],
            "label": ["rock" if i % 2 else "jazz" for i in range(50)],
            "group": [f"artist {i // 5}" for i in range(50)],
            "fold": [i % 5 for i in range(50)],
        }
    )
    csv, parquet = io.BytesIO(), io.BytesIO()
    pyarrow.csv.write_csv(table, csv)
    pq.write_table(table, parquet)
    rows = "\n".join(json.dumps(row) for row in table.to_pylist())
    text = csv.getvalue().decode()
    tags = "".join(
        f"track_{i}\tartist_{i}\talbum_1\t{i}/{i}.mp3\t1.5\tgenre---rock\tmood---x\n" for i in range(50)
    )
    ids = "".join(f"{i},training,Rock,7\n" for i in range(50))
    return {
        "t.csv": csv.getvalue(),
        "t.parquet": parquet.getvalue(),
        "t.jsonl": rows.encode(),
        "latin.csv": text.replace(",", ";").replace("rock", "caf\xe9").encode("cp1252"),
        "wide.csv": text.encode("utf-16"),
        "t.csv.gz": gzip.compress(csv.getvalue()),
        "jamendo.tsv": f"TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n{tags}".encode(),
        "fma.csv": f",set,track,artist\n,split,genre_top,id\ntrack_id,,,\n{ids}".encode(),
    }


def _config(features: Path, run: Path) -> Seeds:
    return {"config.yaml": to_yaml(JobConfig()).encode()}


def _files(folder: Path, *patterns: str) -> Seeds:
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


def _load(folder: Path, file: Path, features: Path) -> object:
    info = read_info(StoragePath.of(features))
    assert info
    return load(StoragePath.of(file), info.settings)


def _read_dataset(folder: Path, file: Path, features: Path) -> object:
    read_status(StoragePath.of(folder))
    dataset = open_dataset(folder)
    for shard in dataset.shards:
        read_track_ids(shard, dataset.info.settings.segments_per_track)
        for group in range(len(shard.row_groups)):
            read_row_group(shard, group)
    return dataset.tracks(), dataset.rejects(), dataset.duplicates()


def _read_run(folder: Path, file: Path, features: Path) -> object:
    run = Run(folder)
    return [
        function()
        for function in (run.info, run.model_info, run.history, run.metrics, run.config, run.cross_validation)
    ]


def _load_model(folder: Path, file: Path, features: Path) -> object:
    from train.evaluation.inference import load_model

    return load_model(Run(folder))


TARGETS: Mapping[str, Target] = {
    "audio": Target(_readable, _load, (Reject,)),
    "tags": Target(_tagged, lambda folder, file, features: read_tag(StoragePath.of(file), "artist"), ()),
    "tables": Target(
        _tables,
        lambda folder, file, features: read_table(find_source(StoragePath.of(file), None, is_folder=False)),
        (EarmarkError,),
        contained=True,
    ),
    "config": Target(_config, lambda folder, file, features: load_config(file, []), (EarmarkError,)),
    "dataset": Target(
        lambda features, run: _files(features, "*.json", "*.parquet", "shards/**/*.parquet"),
        _read_dataset,
        (EarmarkError,),
    ),
    "run": Target(lambda features, run: _files(run, "*.json", "config.yaml"), _read_run, (EarmarkError,)),
    "model": Target(lambda features, run: _files(run, "model.keras", "model.json"), _load_model, (EarmarkError,)),
}
