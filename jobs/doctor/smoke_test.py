"""Decode a tone in every format, run the whole pipeline on ten tones, and look for GPUs.

TensorFlow and Ray run in separate processes: a library built for another processor crashes those, not the checks.
"""

import io
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from featurize.audio.load import decode
from featurize.audio.source import BytesSource
from featurize.config import FeaturizeConfig
from featurize.errors import Reject
from featurize.execution.local_ray import remove_abandoned
from featurize.execution.subprocess_task import SubprocessTask
from featurize.planning.shard_plan import feature_settings
from featurize.storage import StoragePath
from jobs.config import load_config
from jobs.doctor.finding import Finding, in_one_line, wait_for
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.native_output import quiet_tensorflow
from jobs.terminal.signals import raised_signals

Float32 = NDArray[np.float32]

_RATE = 48000  # Hz, supported by Opus
_SECONDS = 6.0
_PITCH = 440.0  # Hz
# libsndfile's container and subtype, by suffix.
_FORMATS = {
    ".aiff": ("AIFF", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".wav": ("WAV", "PCM_16"),
}
_CLASSES = {"low": 110.0, "high": 1760.0}  # Hz
_TRACKS = 5  # per class, one per fold
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
_STOP_SECONDS = 3.0  # for Ray to end and its folder to be removed
_DRIVER_SECONDS = 20.0
_DRIVER_ADVICE = "Fix the NVIDIA driver, or train on the CPU"


def try_all() -> Iterator[Finding]:
    """Test the decoders, the whole pipeline and the GPUs; yield each finding as soon as it is available."""
    yield try_libsndfile()
    yield try_pyav()
    started = time.monotonic()
    gpus = _run_everything()
    if isinstance(gpus, Exception):
        advice = "For the full output, type: earmark demo"
        yield Finding("everything", "broken", f"the run on ten tones failed: {in_one_line(gpus)}", advice)
        with SubprocessTask[str]() as task:  # does TensorFlow itself load?
            task.submit("gpus", _visible_gpus)
            gpus = wait_for(task, _LOAD_SECONDS)
    else:
        seconds = time.monotonic() - started
        yield Finding("everything", "ok", f"trained and evaluated a model on ten tones in {seconds:.0f} s")
    yield look_for_gpus(gpus)


def try_libsndfile() -> Finding:
    """Encode a tone in each format of libsndfile, and decode it as tracks are decoded."""
    decoded, problems = [], []
    for suffix, (container, subtype) in _FORMATS.items():
        encoded = io.BytesIO()
        try:
            soundfile.write(encoded, _tone(_PITCH), _RATE, format=container, subtype=subtype)
            _check_decoded(encoded)
        except (soundfile.SoundFileError, ValueError, Reject) as error:
            problems.append(f"{suffix[1:]} ({in_one_line(error)})")
        else:
            decoded.append(suffix[1:])
    found = f"libsndfile {soundfile.__libsndfile_version__}: {' '.join(decoded) or 'no format'}"
    if problems:
        advice = "Type: pip install --force-reinstall soundfile (its wheels contain libsndfile 1.2 or later)"
        return Finding("decoders", "broken", f"{found}; not {', '.join(problems)}", advice)
    return Finding("decoders", "ok", found)


def try_pyav() -> Finding:
    """Encode a tone as AAC with PyAV, and decode it as tracks are decoded."""
    try:
        import av

        encoded = io.BytesIO()
        _encode_aac(encoded)
        _check_decoded(encoded)
    except (ImportError, OSError, ValueError, Reject) as error:
        advice = "Type: pip install --force-reinstall 'av<19'"
        return Finding("decoders", "broken", f"PyAV cannot decode AAC: {in_one_line(error)}", advice)
    return Finding("decoders", "ok", f"PyAV {av.__version__} (FFmpeg): m4a and what libsndfile does not read")


def _tone(pitch: float) -> Float32:
    """Return a sine wave at half of full scale, float32 [samples]; pitch in Hz."""
    tone: Float32 = (np.sin(2 * np.pi * pitch / _RATE * np.arange(int(_SECONDS * _RATE))) / 2).astype(np.float32)
    return tone


def _check_decoded(encoded: io.BytesIO) -> None:
    """Decode a file, and raise a ValueError if its pitch is not that of the encoded tone."""
    settings = feature_settings(FeaturizeConfig())
    samples, _ = decode(BytesSource(encoded.getvalue()), settings)
    pitch = np.abs(np.fft.rfft(samples)).argmax() / len(samples) * settings.sample_rate
    if abs(pitch - _PITCH) > 1:
        raise ValueError(f"a tone of {_PITCH:g} Hz was decoded as {pitch:.0f} Hz")


def _encode_aac(file: io.BytesIO) -> None:
    import av

    with av.open(file, "w", format="ipod") as out:
        stream = out.add_stream("aac", rate=_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(_tone(_PITCH)[None], format="fltp", layout="mono")
        frame.sample_rate = _RATE
        to_codec = av.AudioResampler(stream.format, stream.layout, _RATE, frame_size=stream.frame_size)
        for part in [*to_codec.resample(frame), *to_codec.resample(None), None]:
            out.mux(stream.encode(part))


def look_for_gpus(gpus: list[str] | Exception) -> Finding:
    """Compare the GPUs that TensorFlow detects with those that the NVIDIA driver lists.

    Args:
        gpus: Names of the GPUs that TensorFlow detects, or the exception that loading it raised.
    """
    if isinstance(gpus, Exception):
        advice = "Type: pip install --force-reinstall tensorflow"
        return Finding("GPUs", "broken", f"TensorFlow cannot be loaded: {in_one_line(gpus)}", advice)
    if not shutil.which("nvidia-smi"):
        return Finding("GPUs", "ok", ", ".join(gpus) or "none; training uses the CPU")
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, timeout=_DRIVER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("GPUs", "remark", f"nvidia-smi fails: {in_one_line(error)}", _DRIVER_ADVICE)
    if driver.returncode:
        output = " ".join((driver.stdout + driver.stderr).split())
        return Finding("GPUs", "remark", f"nvidia-smi fails: {output}", _DRIVER_ADVICE)
    listed = driver.stdout.splitlines()
    if listed and not gpus:
        advice = "Type: pip install 'earmark[gpu]'"
        if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
            advice += f", or unset CUDA_VISIBLE_DEVICES, now {chosen!r}"
        return Finding("GPUs", "remark", f"TensorFlow detects none of {', '.join(listed)}", advice)
    return Finding("GPUs", "ok", f"TensorFlow detects {len(gpus)} of {len(listed)}: {', '.join(gpus)}")


def _run_everything() -> Any:
    """Run the pipeline on ten tones in a separate process; return the names of the GPUs, or the exception."""
    try:
        with tempfile.TemporaryDirectory(prefix="earmark-doctor-", ignore_cleanup_errors=True) as folder:
            music = Path(folder, "music")
            _write_tones(music)
            try:
                with SubprocessTask[str]() as task:
                    task.submit("run", _run_pipeline, str(music), folder)
                    try:
                        return wait_for(task, _RUN_SECONDS)
                    finally:
                        task.stop(_STOP_SECONDS)  # if it goes on, after a signal or too long a time
            finally:
                remove_abandoned()  # if it was killed
    except (OSError, soundfile.SoundFileError) as error:  # libsndfile calls a full disk "System error"
        free = shutil.disk_usage(place := tempfile.gettempdir()).free
        return OSError(f"cannot write to {place}, which has {free / 1e6:.1f} MB free: {in_one_line(error)}")


def _write_tones(music: Path) -> None:
    """Write tones of two classes: each with a different pitch, and each track of a class in a different format."""
    for name, pitch in _CLASSES.items():
        (music / name).mkdir(parents=True)
        for number, (suffix, (container, subtype)) in zip(range(_TRACKS), _FORMATS.items(), strict=False):
            path = music / name / f"{number}{suffix}"
            soundfile.write(path, _tone(pitch * 1.1**number), _RATE, format=container, subtype=subtype)


def _run_pipeline(music: str, folder: str) -> list[str]:
    """Run the pipeline on this machine, ignoring RAY_ADDRESS; return the names of the GPUs."""
    from jobs.pipeline import run

    os.environ.pop("RAY_ADDRESS", None)
    with raised_signals():
        run(music, StoragePath.of(folder) / "run", load_config(None, _SETTINGS), None, ConsoleReporter())
    return _visible_gpus()


def _visible_gpus() -> list[str]:
    """Return the names of the GPUs that TensorFlow detects; loading TensorFlow may crash the process."""
    with quiet_tensorflow():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
