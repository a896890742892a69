"""Encode and tag audio files."""

import io
from pathlib import Path

import mutagen
import mutagen.id3
import numpy as np
import soundfile

# Container and subtype of libsndfile, by suffix.
FORMATS = {
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".wav": ("WAV", "PCM_24"),
    ".aiff": ("AIFF", "PCM_16"),
}


def encode(samples: np.ndarray, rate: int, suffix: str) -> bytes:
    """Encode samples in the format of a suffix.

    Args:
        samples: float [n] or [n, channels], full scale 1.
        rate: Sample rate in Hz.
        suffix: Key of FORMATS.
    """
    container, subtype = FORMATS[suffix]
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def tag_artist(path: Path, artist: str) -> None:
    """Write the artist tag of an audio file."""
    file = mutagen.File(path, easy=path.suffix not in (".wav", ".aiff"))
    if file.tags is None:
        file.add_tags()
    if path.suffix in (".wav", ".aiff"):
        file.tags.add(mutagen.id3.TPE1(encoding=3, text=[artist]))
    else:
        file["artist"] = artist
    file.save()
