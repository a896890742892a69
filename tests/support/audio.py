"""Encode and tag audio files."""

import io
from collections.abc import Mapping

import av
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


# Codec of FFmpeg, by suffix.
CODECS = {
    ".aiff": "pcm_s16be",
    ".au": "pcm_s16be",
    ".caf": "pcm_s16le",
    ".flac": "flac",
    ".m4a": "aac",
    ".mka": "libopus",
    ".mp3": "libmp3lame",
    ".ogg": "libopus",
    ".tta": "tta",
    ".wav": "pcm_s16le",
    ".wma": "wmav2",
    ".wv": "wavpack",
}


def encode(samples: np.ndarray, rate: int, suffix: str, artist: str = "") -> bytes:
    """Encode samples in the format of a suffix.

    Args:
        samples: float [n] or [n, channels], full scale 1.
        rate: Sample rate in Hz.
        suffix: Key of FORMATS.
        artist: Value of the artist tag; none if empty.
    """
    container, subtype = FORMATS[suffix]
    file, channels = io.BytesIO(), 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, subtype, format=container) as sound:
        if artist:
            sound.artist = artist
        sound.write(samples)
    return file.getvalue()


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


def encode_with_tags(suffix: str, tags: Mapping[str, str]) -> bytes:
    """Encode half a second of noise with FFmpeg, with tags.

    Args:
        suffix: Key of CODECS.
        tags: Values by FFmpeg's names: artist, album, album_artist.
    """
    file, rate = io.BytesIO(), 48000
    file.name = f"x{suffix}"  # from which FFmpeg chooses the container
    noise = 0.3 * np.random.default_rng(0).standard_normal((1, rate // 2)).astype(np.float32)
    with av.open(file, "w") as container:
        stream = container.add_stream(CODECS[suffix], rate=rate)
        stream.layout = "mono"
        stream.bit_rate = 64000
        container.metadata.update(tags)
        frame = av.AudioFrame.from_ndarray(noise, format="flt", layout="mono")
        frame.rate = rate
        resampler = av.AudioResampler(stream.format.name, "mono", rate, stream.codec_context.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(part))
    return file.getvalue()
