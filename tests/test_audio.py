"""Audio files are loaded with the samples of librosa, or rejected with a reason."""

import io
import os
import subprocess
import sys
import wave

import av
import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import FORMATS, encode
from support.default_features import SAMPLE_RATE, SEGMENT_SAMPLES
from support.hostile_tags import many_compressed_id3
from support.librosa_reference import TOLERANCE_DB, librosa_mfcc

from featurize.audio.filters import Filters
from featurize.audio.load import decode, load
from featurize.audio.mfcc import segment_features, segment_starts
from featurize.audio.source import Source
from featurize.config import FeaturizeConfig
from featurize.dataset_build.worker import featurize_track
from featurize.errors import Reject
from featurize.planning.shard_plan import feature_settings
from featurize.positioned_file import PositionedFile
from featurize.storage import StoragePath
from jobs.demo.synthesis import STYLES, Habits, compose

SETTINGS = feature_settings(FeaturizeConfig(segments_per_track=4))
FILTERS = Filters.from_librosa(SETTINGS)
RATES = {
    ".mp3": (44100, 22050, 48000),
    ".opus": (48000, 16000),
    ".ogg": (44100, 32000),
    ".wav": (44100, 8000, 96000, 22050),
    ".flac": (44100, 96000),
    ".aiff": (11025, 48000),
}


def _decode(encoded: bytes, **settings) -> np.ndarray:
    return decode(Source(io.BytesIO(encoded)), SETTINGS.model_copy(update=settings))[0]


def _piece(rate: int, channels: int) -> np.ndarray:
    rng = np.random.default_rng(rate)
    piece = compose(STYLES["pulses"], Habits.draw(rng), 6.5, rng)[:, :1].T
    mono = librosa.resample(piece, orig_sr=44100, target_sr=rate)[0]
    levels = np.linspace(1, 0.3, channels)
    return np.stack([np.roll(mono, 50 * i) * level for i, level in enumerate(levels)], axis=1)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [(suffix, rate, 2) for suffix in FORMATS for rate in RATES[suffix]]
    + [(".mp3", 44100, 1), (".wav", 44100, 8), (".flac", 44100, 6)],
)
def test_every_format_equals_librosa(suffix, rate, channels, tmp_path):
    path = tmp_path / f"piece{suffix}"
    path.write_bytes(encode(_piece(rate, channels), rate, suffix))
    expected, _ = librosa.load(path)
    samples = load(StoragePath.of(path), SETTINGS)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)
    mfcc, starts = featurize_track(StoragePath.of(path), SETTINGS, FILTERS)
    hops = np.round(starts * SAMPLE_RATE).astype(int)
    np.testing.assert_allclose(mfcc, librosa_mfcc(expected, hops), rtol=0, atol=TOLERANCE_DB)


def _wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


NOISE = np.random.default_rng(0).standard_normal(SEGMENT_SAMPLES).astype(np.float32) / 4


@pytest.mark.parametrize(
    ("content", "stage", "reason"),
    [
        (b"", "open", "empty"),
        (b"# a readme with an mp3's name\n" * 50, "decode", "not decodable"),
        (bytes(5000), "decode", "not decodable"),
        (_wav(NOISE)[:30], "decode", "not decodable"),
        (_wav(NOISE[:-1]), "check", "too short"),
        (_wav(NOISE * 0), "check", "silent"),
        (_wav(NOISE * 1e-7), "check", "silent"),
        (_wav(np.where(np.arange(SEGMENT_SAMPLES) == 9, np.nan, NOISE)), "check", "not finite"),
        (_wav(np.where(np.arange(SEGMENT_SAMPLES) == 9, np.inf, NOISE)), "check", "not finite"),
    ],
)
def test_an_unusable_file_is_rejected_with_a_reason(content, stage, reason, tmp_path):
    path = tmp_path / "track.mp3"
    path.write_bytes(content)
    with pytest.raises(Reject) as caught:
        load(StoragePath.of(path), SETTINGS)
    assert (caught.value.stage, caught.value.reason) == (stage, reason)
    assert caught.value.message
    assert (
        "0x" not in caught.value.message
    )  # a memory address would make the bytes of the shard differ between runs


def test_a_file_that_cannot_be_opened_is_rejected_with_a_reason(tmp_path):
    with pytest.raises(Reject) as caught:
        load(StoragePath.of(tmp_path / "gone.mp3"), SETTINGS)
    assert (caught.value.stage, caught.value.reason) == ("open", "missing")
    with pytest.raises(Reject) as caught:
        load(StoragePath.of(tmp_path), SETTINGS)
    assert (caught.value.stage, caught.value.reason) == ("open", "unreadable")
    os.mkfifo(tmp_path / "pipe.mp3")
    with pytest.raises(Reject, match="not a regular file"):
        load(StoragePath.of(tmp_path / "pipe.mp3"), SETTINGS)


def test_a_truncated_file_is_loaded_up_to_its_end():
    whole = encode(_piece(44100, 2), 44100, ".mp3")
    samples = _decode(whole[: len(whole) * 9 // 10])
    assert 5.5 < len(samples) / SAMPLE_RATE < 6.1


@settings(max_examples=60)
@given(
    start=st.sampled_from([encode(_piece(48000, 1), 48000, suffix)[:6000] for suffix in FORMATS] + [b""]),
    noise=st.binary(max_size=3000),
    position=st.integers(0, 6000),
)
def test_arbitrary_bytes_give_samples_or_a_reject(start, noise, position):
    damaged = start[:position] + noise + start[position + len(noise) :]
    try:
        samples = _decode(damaged)
    except Reject as reject:
        stage = reject.stage
    else:
        stage = "none" if np.isfinite(samples).all() else "not finite"
    assert stage in ("decode", "check", "none")


EXCERPT = {"excerpt_seconds": 5.5}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("position", ["start", "middle"])
def test_an_excerpt_equals_librosa(suffix, position, tmp_path):
    rate = RATES[suffix][0]
    path = tmp_path / f"piece{suffix}"
    path.write_bytes(encode(np.tile(_piece(rate, 2), (3, 1)), rate, suffix))
    settings = SETTINGS.model_copy(update={**EXCERPT, "excerpt_position": position})
    samples = load(StoragePath.of(path), settings)
    frames = soundfile.info(path).frames
    first = (frames - int(5.5 * rate)) // 2 if position == "middle" else 0
    # A quarter of a frame more, because librosa rounds down.
    expected, _ = librosa.load(path, offset=(first + 0.25) / rate, duration=5.5)
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)


def test_a_middle_excerpt_does_not_depend_on_a_wrong_length_in_the_header():
    piece = np.arange(SAMPLE_RATE * 20, dtype=np.float32) / (SAMPLE_RATE * 20)
    whole = bytearray(_wav(piece))
    middle = _decode(bytes(whole), **EXCERPT, excerpt_position="middle")
    assert len(middle) == int(5.5 * SAMPLE_RATE)
    assert abs(middle[len(middle) // 2] - 0.5) < 1e-4
    data = whole.index(b"data") + 4
    whole[data : data + 4] = (2**31 - 1).to_bytes(4, "little")
    np.testing.assert_array_equal(_decode(bytes(whole), **EXCERPT, excerpt_position="middle"), middle)


def test_an_excerpt_of_a_shorter_track_is_the_whole_track():
    noise = np.tile(NOISE, 2)[: int(SAMPLE_RATE * 5.2)]
    for position in ("start", "middle"):
        np.testing.assert_array_equal(_decode(_wav(noise), **EXCERPT, excerpt_position=position), noise)


def test_a_track_longer_than_max_seconds_is_rejected():
    assert len(_decode(_wav(np.tile(NOISE, 2)), max_seconds=len(NOISE) * 2 / SAMPLE_RATE)) == 2 * len(NOISE)
    with pytest.raises(Reject, match=r"^\('check', 'too long', 'more than 6 s'\)$") as caught:
        _decode(_wav(np.tile(NOISE, 2)), max_seconds=6)
    assert (caught.value.stage, caught.value.reason) == ("check", "too long")
    assert len(_decode(_wav(np.tile(NOISE, 2)), max_seconds=1, **EXCERPT)) == int(5.5 * SAMPLE_RATE)


def test_a_long_track_in_a_temporary_file_has_the_same_features():
    seconds = 700  # longer than the limit for memory
    tone = np.random.default_rng(1).integers(60, 200, SAMPLE_RATE * seconds, np.uint8)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 1, SAMPLE_RATE, 0, "NONE", ""))
        out.writeframes(tone.tobytes())
    samples = _decode(file.getvalue())
    np.testing.assert_array_equal(samples, (tone.astype(np.float32) - 128) / 128)
    starts = segment_starts(len(samples), SETTINGS)
    separate = [
        segment_features(samples[s : s + SEGMENT_SAMPLES].copy(), starts[:1], FILTERS, SETTINGS)[0] for s in starts
    ]
    np.testing.assert_array_equal(segment_features(samples, starts, FILTERS, SETTINGS), np.stack(separate))


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [(".m4a", "aac", 44100), (".m4a", "alac", 48000), (".wma", "wmav2", 44100), (".aac", "aac", 32000)],
)
def test_pyav_reads_what_libsndfile_does_not(suffix, codec, rate, tmp_path):
    piece = _piece(rate, 2)
    path = tmp_path / f"piece{suffix}"
    with av.open(path, "w", format={".m4a": "ipod", ".wma": "asf", ".aac": "adts"}[suffix]) as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        stream.bit_rate = 192_000
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(piece.T, np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate = rate
        to_codec = av.AudioResampler(stream.format, stream.layout, rate, frame_size=stream.frame_size or 1024)
        for part in [*to_codec.resample(frame), *to_codec.resample(None), None]:
            out.mux(stream.encode(part))
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(path)
    samples = load(StoragePath.of(path), SETTINGS)
    expected = librosa.resample(piece.mean(axis=1), orig_sr=rate, target_sr=SAMPLE_RATE)
    # Lossy codecs add padding at the beginning: align the samples by cross-correlation first.
    window = expected[20000:60000]
    correlation = scipy.signal.correlate(samples[10000:70000], window, "valid")
    delay = 10000 + int(correlation.argmax())
    assert np.corrcoef(samples[delay : delay + len(window)], window)[0, 1] > 0.95
    assert abs(len(samples) - len(expected)) < 0.2 * SAMPLE_RATE


@settings(max_examples=60)
@given(
    length=st.integers(1, 2 * SEGMENT_SAMPLES),
    rate=st.sampled_from([1000, 8000, 11025, 22050, 44100, 48000, 96000, 192000]),
    channels=st.integers(1, 8),
    amplitude=st.floats(-12, 37).map(lambda power: 10.0**power),
    kind=st.sampled_from(["noise", "constant", "click", "tone"]),
    seed=st.integers(0, 99),
)
def test_features_are_always_finite(length, rate, channels, amplitude, kind, seed):
    frames = max(1, length * rate // SAMPLE_RATE)
    rng = np.random.default_rng(seed)
    piece = {
        "noise": lambda: rng.uniform(-1, 1, (frames, channels)),
        "constant": lambda: np.ones((frames, channels)),
        "click": lambda: np.eye(frames, channels, -int(rng.integers(frames))),
        "tone": lambda: np.sin(np.arange(frames) * rng.uniform(0, np.pi))[:, None] * np.ones(channels),
    }[kind]()
    file = io.BytesIO()
    soundfile.write(file, (piece * amplitude).astype(np.float32), rate, format="WAV", subtype="FLOAT")
    try:
        samples = _decode(file.getvalue())
    except Reject as reject:
        reason = reject.reason
        assert reason in ("too short", "silent", "not finite")
    else:
        mfcc = segment_features(samples, segment_starts(len(samples), SETTINGS), FILTERS, SETTINGS)
        assert mfcc.shape == (4, 40, 217)
        assert np.isfinite(mfcc).all()


class _CountingFile(PositionedFile):
    def __init__(self, content: bytes) -> None:
        super().__init__(len(content))
        self._content = content
        self.read_bytes = 0

    def readinto(self, buffer) -> int:
        part = self._content[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        self.read_bytes += len(part)
        return len(part)


def test_the_beginning_of_a_long_file_is_read_once():
    sound = 0.3 * np.random.default_rng(0).standard_normal((40 * 44100, 2))
    file = _CountingFile(encode(sound, 44100, ".flac"))
    size = 2 << 20
    source = Source(io.BufferedReader(file, size))
    samples, _ = decode(source, SETTINGS.model_copy(update={"excerpt_seconds": 6.0}))
    assert len(samples) == 6 * SAMPLE_RATE
    assert file.read_bytes == size < file.seek(0, io.SEEK_END)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_compressed_tags_take_little_memory(tmp_path):
    sound = encode(0.3 * np.random.default_rng(0).standard_normal(2 * 44100), 44100, ".mp3")
    (tmp_path / "bomb.mp3").write_bytes(many_compressed_id3(8) + sound)
    script = (
        "import resource, sys\n"
        "from featurize.audio.av_decoder import AvDecoder\n"
        "from featurize.audio.decoders import Refused\n"
        "from featurize.audio.source import open_source\n"
        "from featurize.storage import StoragePath\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "limit = resource.getrlimit(resource.RLIMIT_DATA)\n"
        "with open_source(StoragePath.of(sys.argv[1])) as source:\n"
        "    try:\n"
        "        AvDecoder(source).close()\n"
        "    except Refused:\n"
        "        pass\n"
        "assert resource.getrlimit(resource.RLIMIT_DATA) == limit\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "bomb.mp3"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 800  # MiB; without the limit 2,100
