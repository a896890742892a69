"""Encode and tag audio files."""

import io
from pathlib import Path

import av
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


def encode_av(samples: np.ndarray, rate: int, container: str, codec: str, streams: int = 1) -> bytes:
    """Encode samples with FFmpeg, the same into each of some streams.

    Args:
        samples: float32 [n], mono, full scale 1.
        rate: Sample rate in Hz.
        container: Name of FFmpeg's muxer.
        codec: Name of FFmpeg's encoder.
        streams: Number of streams; the samples of stream k are divided by k + 1.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        encoders = [out.add_stream(codec, rate=rate, layout="mono") for _ in range(streams)]
        for number, encoder in enumerate(encoders):
            planes = np.ascontiguousarray(samples[None] / (number + 1), np.float32)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="mono")
            frame.sample_rate = rate
            to_codec = av.AudioResampler(encoder.format, "mono", rate, frame_size=encoder.frame_size or 1024)
            parts = [*to_codec.resample(frame), *to_codec.resample(None), None]
            out.mux([packet for part in parts for packet in encoder.encode(part)])
    return file.getvalue()


def in_ogg(flac: bytes) -> bytes:
    """Move the packets of a FLAC file into an Ogg file."""
    file = io.BytesIO()
    with av.open(io.BytesIO(flac)) as source, av.open(file, "w", format="ogg") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return file.getvalue()
