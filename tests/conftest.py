"""Fixtures of several test modules: a small synthetic collection, its dataset, and one Ray for all tests."""

import os
import secrets
import signal
from pathlib import Path

import boto3
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from support.audio import encode
from support.s3 import keys_in_environment, moto_server

from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose

ARTISTS = 5
TRACKS_PER_ARTIST = 2
SECONDS = 6.0

# A shell that starts tests in the background makes them, and their child processes, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray reads these when it is imported, and some tests import it before `ray_here` starts it.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

# No test asserts a time: on a busy machine any example may take seconds. Where the variable CI is set, hypothesis
# tries the same examples each time, and this profile keeps that.
settings.register_profile("busy", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Hundreds of child processes import Earmark; without bytecode each would compile it again, a fifth of a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# Files with long tests, the longest first: started last, they would run alone.
LONGEST = (
    "test_benchmarks",
    "test_cluster",
    "test_docs",
    "test_cli",
    "test_resume",
    "test_export",
    "test_kill",
    "test_fold_processes",
    "test_replicas",
    "test_labels",
    "test_answers_runs",
    "test_ray_up",
    "test_ray_metrics",
    "test_report_browser",
    "test_changes",
    "test_user_models",
    "test_tables",
    "test_report_content",
    "test_s3",
    "test_evaluation",
    "test_answers",
    "test_compact",
    "test_damage",
    "test_train",
    "test_official_split",
    "test_predict",
    "test_hostile_files",
    "test_ensemble",
    "test_featurize",
    "test_damage_training",
    "test_hostile",
    "test_feature_shapes",
    "test_signals",
    "test_fuzz",
    "test_real_music",
    "test_local_ray",
    "test_crossval",
    "test_tracking",
    "test_export_samples",
    "test_shared_outputs",
    "test_working_directory",
    "test_doctor",
    "test_lanes",
)


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        name = item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


def pytest_collection_finish(session):
    """Set up TensorFlow before any test starts it: its logical CPUs cannot be changed afterwards."""
    if any("logical_cpus" in item.fixturenames for item in session.items):
        _four_logical_cpus()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report):
    """Escape lone surrogates: a worker of pytest-xdist cannot send them and would end the whole run."""
    return _encodable((yield))


def _encodable(value):
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_encodable(key): _encodable(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_encodable(item) for item in value)
    return value


@pytest.fixture(scope="session")
def music(tmp_path_factory) -> Path:
    """Thirty pieces of six seconds: three styles, five tagged artists per style, two pieces per artist."""
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
                path.write_bytes(encode(samples, SAMPLE_RATE, path.suffix, f"{name} {artist}"))
    return root


@pytest.fixture(scope="session")
def ray_here():
    """Ray with two workers, for all tests that featurize in this process."""
    import ray

    with keys_in_environment():  # its workers also read from the S3 server of a test
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def features(music, ray_here, tmp_path_factory) -> Path:
    """The dataset of `music`, with three tracks per shard and four segments per track."""
    from featurize.config import FeaturizeConfig
    from featurize.dataset_build.driver import featurize

    folder = tmp_path_factory.mktemp("features")
    featurize(str(music), folder, FeaturizeConfig(tracks_per_shard=3, segments_per_track=4))
    return folder


@pytest.fixture(scope="session")
def logical_cpus() -> None:
    """Let this process train on one, two or four replicas, whichever test imports TensorFlow first."""
    _four_logical_cpus()


def _four_logical_cpus() -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    if not tf.config.get_logical_device_configuration(cpu):
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    # Starts TensorFlow. Before that, training on two replicas would set another number.
    assert len(tf.config.list_logical_devices("CPU")) == 4


@pytest.fixture(scope="session")
def report_dataset(ray_here, tmp_path_factory):
    from support.report import compose_dataset

    return compose_dataset(tmp_path_factory.mktemp("a place with spaces & #"))


@pytest.fixture(scope="session")
def report_run(report_dataset, logical_cpus) -> Path:
    from support.report import train_run

    return train_run(report_dataset)


@pytest.fixture(scope="session")
def export_run(features, logical_cpus, tmp_path_factory) -> Path:
    """A run whose model normalizes its input, so that an export that forgets it differs."""
    from support.training import trained

    folder = tmp_path_factory.mktemp("run")
    trained(features, folder, normalize=True)
    return folder


@pytest.fixture(scope="session")
def conv3_run(features, logical_cpus, tmp_path_factory) -> Path:
    """A run of the default network, whose input is normalized; not to be changed."""
    from support.training import trained

    folder = tmp_path_factory.mktemp("conv3")
    trained(features, folder, model="conv3-norm", normalize=True)
    return folder


@pytest.fixture(scope="session")
def quick_run(features, tmp_path_factory) -> Path:
    """A run on `features` by the command line, with the settings of the matrix; not to be changed."""
    from support.command_line import earmark
    from support.matrix import TRAINING

    run = tmp_path_factory.mktemp("quick") / "run"
    done = earmark("train", features, "--out", run, *TRAINING)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def server():
    with moto_server() as address:
        yield address


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
