"""A small composed collection, its dataset, and one Ray for all tests that need one."""

import io
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import mutagen
import mutagen.id3
import numpy as np
import pytest
import soundfile

from featurize.storage import StoragePath
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose

ARTISTS = 5
TRACKS_PER_ARTIST = 2
SECONDS = 6.0

# A shell that starts tests in the background makes them deaf to Ctrl-C, and with them what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray reads them when it is imported, which some test does before the one that starts it here.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

# Suffix: libsndfile's container and subtype.
FORMATS = {
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".wav": ("WAV", "PCM_24"),
    ".aiff": ("AIFF", "PCM_16"),
}


def encode(samples: np.ndarray, rate: int, suffix: str) -> bytes:
    container, subtype = FORMATS[suffix]
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def tag_artist(path: Path, artist: str) -> None:
    file = mutagen.File(path, easy=path.suffix not in (".wav", ".aiff"))
    if file.tags is None:
        file.add_tags()
    if path.suffix in (".wav", ".aiff"):
        file.tags.add(mutagen.id3.TPE1(encoding=3, text=[artist]))
    else:
        file["artist"] = artist
    file.save()


@pytest.fixture(scope="session")
def music(tmp_path_factory) -> Path:
    """Thirty pieces of six seconds: three styles, five tagged artists each, two pieces an artist."""
    root = tmp_path_factory.mktemp("music")
    suffixes = [".mp3", ".flac", ".ogg", ".wav", ".aiff"]
    for s, (name, style) in enumerate(STYLES.items()):
        (root / name / "deeper").mkdir(parents=True)
        for artist in range(ARTISTS):
            habits = Habits.draw(np.random.default_rng([7, s, artist]))
            for n in range(TRACKS_PER_ARTIST):
                samples = compose(style, habits, SECONDS, np.random.default_rng([7, s, artist, n]))
                folder = root / name / "deeper" if n else root / name
                path = folder / f"{artist}-{n}{suffixes[artist]}"
                path.write_bytes(encode(samples, SAMPLE_RATE, path.suffix))
                tag_artist(path, f"{name} {artist}")
    return root


@pytest.fixture(scope="session")
def ray_here():
    """One Ray with two workers for every test that featurizes in this process."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def features(music, ray_here, tmp_path_factory) -> Path:
    from featurize.config import FeaturizeConfig
    from featurize.dataset_build.driver import featurize

    folder = tmp_path_factory.mktemp("features")
    featurize(str(music), folder, FeaturizeConfig(tracks_per_shard=3, segments_per_track=4))
    return folder


@pytest.fixture(scope="session")
def logical_cpus() -> None:
    """Let this process train on one, two or four replicas."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)


@pytest.fixture(scope="module")
def server():
    """Start moto's server and let Arrow, here and in what is started from here, find keys for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in keys}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        os.environ.update(keys)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    assert running.poll() is None
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            running.kill()
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def client(server):
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="music")
    yield client
    client.close()


@pytest.fixture(scope="module")
def uri(server):
    return lambda path: f"s3://{path}?endpoint_override={server}"


@pytest.fixture(scope="session")
def real_music() -> Path:
    folder = os.environ.get("EARMARK_MUSIC")
    if not folder:
        pytest.skip("EARMARK_MUSIC is not set: it names a folder of real music")
    return Path(folder)


def earmark(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def contents(folder: Path | str) -> dict[str, bytes]:
    """Every file below a folder by its relative path; no hidden ones, not where the music lies."""
    place = StoragePath.of(folder)
    names = sorted(name for name, _ in place.files())
    shown = [name for name in names if not name.split("/")[-1].startswith(".") and name != "music.json"]
    return {name: (place / name).read() for name in shown}
