"""Clips of tracks for the report of a run: what the model read, as Opus in a data URI."""

import base64
import io
import logging
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featurize.audio.load import load
from featurize.dataset.dataset import Dataset
from featurize.dataset.feature_settings import FeatureSettings
from featurize.display import one_line
from featurize.errors import Reject
from featurize.storage import StoragePath
from jobs.errors import ConfigError
from train.report.run_page import Clip, Mistake

SECONDS = 10.0  # of a clip
_OPUS_RATE = 48_000  # Hz
_BITS_PER_SECOND = 40_000

_log = logging.getLogger(__name__)


def clips_of(mistakes: Sequence[Mistake], dataset: Dataset) -> dict[str, Clip]:
    """Return a clip of each track, around the segment that is most surely mistaken.

    The clips are mono, at the rate of the features: what the model reads of a track. A track that cannot be read
    is left out, with a warning.

    Args:
        mistakes: The tracks.
        dataset: Dataset of the run, with the place of the music.

    Returns:
        Clips by track.

    Raises:
        ConfigError: The music is not on this machine.
    """
    music = dataset.music()
    if music is None:
        raise ConfigError(
            f"--embed-audio: the music of {dataset.folder} is not on this machine, so there is no audio to embed. "
            "Put it where it was, or leave the option out"
        )
    clips = {}
    for mistake in mistakes:
        try:
            samples = load(_locate(music, mistake.track), dataset.info.settings)
        except Reject as reject:
            _log.warning(f"No clip of {one_line(mistake.track)}: {one_line(reject.message)}")
            continue
        clips[mistake.track] = clip_from(samples, mistake.start, dataset.info.settings)
    return clips


def _locate(music: StoragePath, track: str) -> StoragePath:
    """Return the file of a track, whose id is a path below the music, or an absolute one from a table."""
    return StoragePath.of(track) if "://" in track or os.path.isabs(track) else music.below(track)


def clip_from(samples: NDArray[np.float32], start: float, settings: FeatureSettings) -> Clip:
    """Return a clip that begins where a segment does, or earlier if the track ends before the clip would.

    Args:
        samples: float32 [samples], the track or its excerpt.
        start: Start of the segment, in seconds.
        settings: Feature settings.
    """
    length = round(SECONDS * settings.sample_rate)
    first = max(min(round(start * settings.sample_rate), len(samples) - length), 0)
    opus = encode_opus(samples[first : first + length], settings.sample_rate)
    return Clip("data:audio/ogg;base64," + base64.b64encode(opus).decode(), first / settings.sample_rate)


def encode_opus(samples: NDArray[np.float32], rate: int) -> bytes:
    """Encode samples as Opus in Ogg; the same samples give the same bytes.

    Args:
        samples: float32 [samples], mono, full scale 1; louder ones are clipped.
        rate: Sample rate in Hz.
    """
    import av  # slow to import

    file = io.BytesIO()
    # Otherwise the number of the stream is random.
    with av.open(file, "w", format="ogg", container_options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream("libopus", rate=_OPUS_RATE, layout="mono")
        stream.bit_rate = _BITS_PER_SECOND
        frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        to_codec = av.AudioResampler(stream.format, "mono", _OPUS_RATE, frame_size=stream.frame_size or 960)
        for part in (*to_codec.resample(frame), *to_codec.resample(None), None):
            out.mux(stream.encode(part))
    return file.getvalue()
