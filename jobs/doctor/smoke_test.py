"""A tone through every decoder, and ten tones through everything, up to a report.

What needs TensorFlow or Ray runs in processes apart: a library that was built for another processor ends those and
not the checks.
"""

import io
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from featurize.audio.load import decode
from featurize.audio.source import BytesSource
from featurize.collection.listing import AV_SUFFIXES
from featurize.config import FeaturizeConfig
from featurize.errors import Reject
from featurize.execution.subprocess_task import SubprocessTask
from featurize.planning.shard_plan import feature_settings
from featurize.storage import StoragePath
from jobs.config import load_config
from jobs.doctor.finding import Finding, in_one_line, wait_for
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.native_output import quiet_tensorflow

Float32 = NDArray[np.float32]

_RATE = 48000  # Hz, one that Opus has
_SECONDS = 6.0
_PITCH = 440.0  # Hz
# Suffix: libsndfile's container and subtype.
_FORMATS = {
    ".aiff": ("AIFF", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".wav": ("WAV", "PCM_16"),
}
_CLASSES = {"low": 110.0, "high": 1760.0}  # Hz
_TRACKS = 5  # of each class, one for each fold
_SETTINGS = [
    "featurize.group_by=none",
    "featurize.segments_per_track=2",
    "featurize.tracks_per_shard=4",
    "train.model=conv2",
    "train.epochs=1",
    "train.batch_size=16",
]
_LOAD_SECONDS = 120.0
_RUN_SECONDS = 300.0
_DRIVER_SECONDS = 20.0


def try_all() -> Iterator[Finding]:
    """Try the decoders, run everything once, and look for GPUs; yield each finding as it comes."""
    yield try_libsndfile()
    yield try_pyav()
    begun = time.monotonic()
    seen = _run_everything()
    if isinstance(seen, Exception):
        advice = "See more of it: earmark demo"
        yield Finding("everything", "broken", f"ten tones came to no report: {in_one_line(seen)}", advice)
        with SubprocessTask[str]() as task:  # was it TensorFlow itself?
            task.submit("gpus", _visible_gpus)
            seen = wait_for(task, _LOAD_SECONDS)
    else:
        seconds = time.monotonic() - begun
        yield Finding("everything", "ok", f"from ten tones to a model and its report in {seconds:.0f} s")
    yield look_for_gpus(seen)


def try_libsndfile() -> Finding:
    """Have a tone written in each format that libsndfile has, and read back as tracks are."""
    heard, problems = [], []
    for suffix, (container, subtype) in _FORMATS.items():
        encoded = io.BytesIO()
        try:
            soundfile.write(encoded, _tone(_PITCH), _RATE, format=container, subtype=subtype)
            _listen(encoded, suffix)
        except (soundfile.SoundFileError, ValueError, Reject) as error:
            problems.append(f"{suffix[1:]} ({in_one_line(error)})")
        else:
            heard.append(suffix[1:])
    found = f"libsndfile {soundfile.__libsndfile_version__}: {' '.join(heard) or 'nothing'}"
    if problems:
        advice = "Type: pip install --force-reinstall soundfile, whose wheels bring libsndfile 1.2 or later"
        return Finding("decoders", "broken", f"{found}; not {', '.join(problems)}", advice)
    return Finding("decoders", "ok", found)


def try_pyav() -> Finding:
    """Have a tone encoded as AAC, and read back as tracks are."""
    suffixes = " ".join(sorted(suffix[1:] for suffix in AV_SUFFIXES))
    if find_spec("av") is None:
        return Finding(
            "decoders",
            "remark",
            f"no PyAV, without which {suffixes} are rejected",
            "Type: pip install 'earmark[av]'",
        )
    try:
        import av

        encoded = io.BytesIO()
        _encode_aac(encoded)
        _listen(encoded, ".m4a")
    except (ImportError, OSError, ValueError, Reject) as error:
        advice = "Type: pip install --force-reinstall 'earmark[av]'"
        return Finding("decoders", "broken", f"PyAV does not read AAC: {in_one_line(error)}", advice)
    return Finding("decoders", "ok", f"FFmpeg by PyAV {av.__version__}: {suffixes} and others")


def _tone(pitch: float) -> Float32:
    """Return float32 [samples] of a sine at half of full scale, pitch in Hz."""
    tone: Float32 = np.sin(2 * np.pi * pitch / _RATE * np.arange(int(_SECONDS * _RATE))).astype(np.float32) / 2
    return tone


def _listen(encoded: io.BytesIO, suffix: str) -> None:
    """Decode a file and raise a ValueError where it is not the tone that was written."""
    settings = feature_settings(FeaturizeConfig())
    samples = decode(BytesSource(encoded.getvalue()), suffix, settings)
    pitch = np.abs(np.fft.rfft(samples)).argmax() / len(samples) * settings.sample_rate
    if abs(pitch - _PITCH) > 1:
        raise ValueError(f"a tone of {_PITCH:g} Hz came back as {pitch:.0f} Hz")


def _encode_aac(file: io.BytesIO) -> None:
    import av

    with av.open(file, "w", format="ipod") as out:
        stream = out.add_stream("aac", rate=_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(_tone(_PITCH)[None], format="fltp", layout="mono")
        frame.sample_rate = _RATE
        to_codec = av.AudioResampler(stream.format, stream.layout, _RATE, frame_size=stream.frame_size)
        for part in [*to_codec.resample(frame), *to_codec.resample(None), None]:
            out.mux(stream.encode(part))


def look_for_gpus(seen: list[str] | Exception) -> Finding:
    """Compare the GPUs that TensorFlow sees with those that NVIDIA's driver names.

    Args:
        seen: their names, or what happened when TensorFlow was asked for them.
    """
    if isinstance(seen, Exception):
        advice = "Type: pip install --force-reinstall tensorflow"
        return Finding("GPUs", "broken", f"TensorFlow cannot be loaded: {in_one_line(seen)}", advice)
    if not shutil.which("nvidia-smi"):
        return Finding("GPUs", "ok", ", ".join(seen) or "none; training takes the CPU")
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=_DRIVER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(
            "GPUs", "remark", f"nvidia-smi fails: {in_one_line(error)}", "Mend the driver, or do without"
        )
    if asked.returncode:
        words = " ".join((asked.stdout + asked.stderr).split())
        return Finding("GPUs", "remark", f"nvidia-smi fails: {words}", "Mend the driver, or do without GPUs")
    there = asked.stdout.splitlines()
    if there and not seen:
        advice = "Type: pip install 'earmark[gpu]'"
        if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
            advice += f", or unset CUDA_VISIBLE_DEVICES, which is {chosen!r}"
        return Finding("GPUs", "remark", f"TensorFlow sees none of {', '.join(there)}", advice)
    return Finding("GPUs", "ok", f"TensorFlow sees {len(seen)} of {len(there)}: {', '.join(seen)}")


def _run_everything() -> Any:
    """Make a dataset, a model and a report of ten tones; return the GPUs seen meanwhile, or what went wrong."""
    try:
        with tempfile.TemporaryDirectory(prefix="earmark-doctor-", ignore_cleanup_errors=True) as folder:
            music = Path(folder, "music")
            _write_tones(music)
            with SubprocessTask[str]() as task:
                task.submit("run", _run_alone, str(music), folder)
                return wait_for(task, _RUN_SECONDS)
    except (OSError, soundfile.SoundFileError) as error:
        return error


def _write_tones(music: Path) -> None:
    """Write tones of two classes, no two of one pitch, in as many formats as there are tracks in a class."""
    for name, pitch in _CLASSES.items():
        (music / name).mkdir(parents=True)
        for number, (suffix, (container, subtype)) in zip(range(_TRACKS), _FORMATS.items(), strict=False):
            path = music / name / f"{number}{suffix}"
            soundfile.write(path, _tone(pitch * 1.1**number), _RATE, format=container, subtype=subtype)


def _run_alone(music: str, folder: str) -> list[str]:
    """Do what `earmark run` does, without the cluster that the environment may name; return the GPUs seen."""
    from jobs.pipeline import run

    os.environ.pop("RAY_ADDRESS", None)
    run(music, StoragePath.of(folder) / "run", load_config(None, _SETTINGS), None, ConsoleReporter())
    return _visible_gpus()


def _visible_gpus() -> list[str]:
    """Return the names of the GPUs that TensorFlow sees, in a process that may end of it."""
    with quiet_tensorflow():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
