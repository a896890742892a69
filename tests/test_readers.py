"""Two readers: FFmpeg reads what libsndfile refuses or stops in; lying headers, damage, channels that cancel."""

import io
import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from hostile.encoders import (
    ape_tag,
    encode_mp3,
    encode_samples,
    encode_tune,
    fmt_chunk,
    id3_tag,
    id3_text_frame,
    id3v1_tag,
    make_noise,
    make_tune,
    ogg_pages,
    patched,
    riff_chunk,
    riff_file,
    to_pcm8,
    to_pcm16,
    wav_file,
)
from support.audio import encode_av, in_ogg
from support.default_features import SAMPLE_RATE

import featurize.audio.load
from featurize.audio.av_decoder import AvDecoder
from featurize.audio.filters import Filters
from featurize.audio.load import decode
from featurize.audio.source import BytesSource
from featurize.collection.listing import AUDIO_SUFFIXES
from featurize.config import FeaturizeConfig
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.footer import read_footer
from featurize.dataset.schema import shard_name
from featurize.dataset_build.worker import write_features
from featurize.errors import Reject
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath

SETTINGS = feature_settings(FeaturizeConfig(segments_per_track=2))
EXCERPT = {"excerpt_seconds": 6.0, "excerpt_position": "middle"}


def read(encoded: bytes, **settings) -> tuple[float, str]:
    """Return the length in seconds and the remark."""
    samples, remark = decode(BytesSource(encoded), SETTINGS.model_copy(update=settings))
    return len(samples) / SAMPLE_RATE, remark


def tone(rate: int, seconds: float = 6.0, pitch: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * pitch / rate * np.arange(int(rate * seconds)))).astype(np.float32)


def pitch_of(samples: np.ndarray) -> float:
    windowed = samples * np.hanning(len(samples))
    return float(np.abs(np.fft.rfft(windowed)).argmax() / len(samples) * SAMPLE_RATE)


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("wav", "ac3", 32000),
        ("wav", "g726", 8000),
        ("webm", "libopus", 48000),
        ("matroska", "alac", 44100),
        ("mov", "aac", 44100),
        ("avi", "libmp3lame", 44100),
        ("mpegts", "mp2", 44100),
        ("mpeg", "mp2", 44100),
        ("3gp", "aac", 44100),
        ("flv", "aac", 44100),
        ("tta", "tta", 44100),
        ("wv", "wavpack", 44100),
        ("eac3", "eac3", 48000),
        ("latm", "aac", 44100),
        ("caf", "alac", 44100),
    ],
)
def test_what_libsndfile_refuses_for_whatever_cause_is_read(container, codec, rate):
    samples, remark = decode(BytesSource(encode_av(tone(rate), rate, container, codec)), SETTINGS)
    assert abs(len(samples) / SAMPLE_RATE - 6) < 0.1
    assert abs(pitch_of(samples) - 440) < 1
    assert not remark


@pytest.mark.parametrize("layout", ["stereo", "6.1", "7.1", "hexadecagonal", "22.2"])
@pytest.mark.parametrize(("container", "codec"), [("matroska", "pcm_f32le"), ("ipod", "aac")])
def test_no_more_than_the_channels_of_a_file_are_read(container, codec, layout):
    if codec == "aac" and layout in ("hexadecagonal", "22.2"):
        pytest.skip("FFmpeg encodes AAC of at most 8 channels")
    count = av.AudioLayout(layout).nb_channels
    channels = np.random.default_rng(count).uniform(-0.5, 0.5, (count, 48000)).astype(np.float32)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        encoder = out.add_stream(codec, rate=48000, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels.T.reshape(1, -1)), "flt", layout)
        frame.sample_rate = 48000
        to_codec = av.AudioResampler(encoder.format, layout, 48000, frame_size=encoder.frame_size or 1024)
        for part in [*to_codec.resample(frame), *to_codec.resample(None), None]:
            out.mux(encoder.encode(part))
    blocks = np.hstack([block.channels for block in AvDecoder(BytesSource(file.getvalue())).blocks()])
    if codec == "aac":
        assert blocks.shape == (count, 48 * 1024)
        assert np.abs(blocks).max() < 2
    else:
        np.testing.assert_array_equal(blocks, channels)


def test_a_flac_file_behind_two_tags_is_read():
    tags = id3_tag(id3_text_frame(b"TPE1", b"One")) + id3_tag(id3_text_frame(b"TPE1", b"Two"))
    assert read(tags + encode_tune("FLAC", "PCM_16")) == (6, "")


def test_a_tag_before_an_mp3_adds_nothing_to_its_length():
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3", options={"write_xing": "0", "id3v2_version": "0"}) as out:
        encoder = out.add_stream("mp3", rate=44100, layout="mono", bit_rate=128_000)
        planes = 0.2 * rng.standard_normal((1, 44100 * 12)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="mono")
        frame.sample_rate = 44100
        out.mux([*encoder.encode(frame), *encoder.encode(None)])
    content = file.getvalue()
    tags = id3_tag(id3_text_frame(b"APIC", rng.bytes(2_000_000)))
    middle = feature_settings(FeaturizeConfig(excerpt_seconds=6, excerpt_position="middle"))
    for how in (SETTINGS, middle):
        expected, nothing = decode(BytesSource(content), how)
        samples, remark = decode(BytesSource(tags + content), how)
        np.testing.assert_array_equal(samples, expected)
        assert (remark, nothing) == ("", "")


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("CAF", "ALAC_16"), ("OGG", "VORBIS")],
)
def test_nothing_is_lost_of_a_file_behind_a_tag(container, subtype):
    content = encode_tune(container, subtype)
    tags = id3_tag(id3_text_frame(b"TPE1", b"x" * 9000)) + id3_tag(id3_text_frame(b"APIC", bytes(90_000)))
    expected, _ = decode(BytesSource(content), SETTINGS)
    samples, remark = decode(BytesSource(tags + content), SETTINGS)
    np.testing.assert_array_equal(samples, expected)
    assert remark == ""


def test_flac_in_ogg_is_read():
    assert read(in_ogg(encode_tune("FLAC", "PCM_16"))) == (6, "")


def test_a_file_that_both_readers_refuse_is_rejected_with_both_reasons():
    with pytest.raises(Reject, match=r"libsndfile: .*; FFmpeg: ") as caught:
        read(make_noise(20_000))
    assert (caught.value.stage, caught.value.reason) == ("decode", "not decodable")


def test_of_several_streams_the_default_one_is_read():
    two = encode_av(tone(44100), 44100, "matroska", "alac", streams=2)
    flag = two.rindex(b"\x88\x81\0")  # Matroska's FlagDefault of the second stream
    for content, level in ((two, 0.4), (patched(two, flag, b"\x88\x81\1"), 0.2)):
        samples, _ = decode(BytesSource(content), SETTINGS)
        assert abs(np.abs(samples).max() - level) < 0.02


def test_a_stream_that_begins_in_mid_file_does_not_end_the_reading():
    audio = encode_av(tone(44100, 12.0), 44100, "flv", "libmp3lame")
    picture = b"\x12" + make_noise(500)
    header = b"\x09" + len(picture).to_bytes(3, "big") + (12_000).to_bytes(3, "big") + bytes(4)
    late = audio + header + picture + (len(header) + len(picture)).to_bytes(4, "big")
    late += 100 * late[len(audio) :]
    assert read(late) == read(audio) == (pytest.approx(12, abs=0.1), "")


def test_the_documentation_lists_every_suffix():
    page = (Path(__file__).parent.parent / "docs" / "formats.md").read_text()
    lists = page[page.index("**Suffixes of music:**") : page.index("If a file has several")]
    assert set(re.findall(r"\.\w+", lists)) == AUDIO_SUFFIXES


def aac(rate: int, seconds: float = 6.0, pitch: float = 440.0) -> bytes:
    return encode_av(tone(rate, seconds, pitch), rate, "adts", "aac")


def test_each_part_of_a_stream_has_its_own_rate():
    samples, _ = decode(BytesSource(aac(44100) + aac(22050) + aac(48000)), SETTINGS)
    assert abs(len(samples) / SAMPLE_RATE - 18) < 0.3
    for third in np.array_split(samples, 3):
        assert abs(pitch_of(third) - 440) < 1


def test_excerpts_and_limits_are_in_seconds_also_where_the_rate_changes():
    changing = aac(44100, pitch=300) + aac(22050, 12, pitch=600)
    assert read(changing, excerpt_seconds=8.0)[0] == pytest.approx(8, abs=1e-3)
    samples, _ = decode(BytesSource(changing), SETTINGS.model_copy(update={"excerpt_seconds": 14.0}))
    assert len(samples) / SAMPLE_RATE == pytest.approx(14, abs=1e-3)
    assert abs(pitch_of(samples[-SAMPLE_RATE * 7 :]) - 600) < 1
    assert read(changing, max_seconds=18.5)[0] > 18
    with pytest.raises(Reject, match="more than 17 s"):
        read(changing, max_seconds=17)


def test_a_damaged_packet_costs_itself_and_is_counted():
    whole = aac(22050, 12)
    damaged = patched(whole, len(whole) // 3, make_noise(60))
    seconds, remark = read(damaged)
    assert seconds > 11.8
    assert remark.endswith("packets are damaged and were skipped")
    assert 1 <= int(remark.split()[0]) <= 3
    with pytest.raises(Reject, match=r"too short.*packets are damaged and were skipped"):
        read(patched(aac(22050, 4), 9000, make_noise(60)))


def test_a_file_that_is_mostly_damage_is_rejected():
    damaged = bytearray(aac(22050, 12))
    frames = [i for i in range(len(damaged) - 1) if damaged[i] == 0xFF and damaged[i + 1] == 0xF1]
    for frame in frames[: len(frames) * 4 // 5]:
        damaged[frame + 9 : frame + 40] = b"\xff" * 31
    with pytest.raises(Reject, match="packets are damaged"):
        read(bytes(damaged))


def test_a_flac_frame_with_a_wrong_checksum_is_left_out():
    flac = encode_tune("FLAC", "PCM_16", seconds=8)
    samples, remark = decode(BytesSource(patched(flac, len(flac) // 2, b"\x55\xaa")), SETTINGS)
    assert 7 < len(samples) / SAMPLE_RATE < 8
    assert np.abs(samples).max() < 0.7  # decoded damage reaches full scale
    assert remark.startswith("libsndfile stopped after ")


MP3 = encode_mp3()
XING = max(MP3.find(b"Xing"), MP3.find(b"Info"))


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (patched(MP3, XING + 8, struct.pack(">I", 10)), 8),
        (MP3 + MP3, 16),
        (id3_tag(id3_text_frame(b"TPE1", b"x")) + MP3 + id3v1_tag() + MP3 + id3v1_tag(), 16),
        (encode_mp3(44100, 2) + encode_mp3(48000), 16),
        (wav_file(to_pcm8(make_tune(8000)), bits=8, data_size=0), 6),
        (wav_file(to_pcm8(make_tune(8000)), bits=8, data_size=0xFFFFFFFF), 6),
    ],
    ids=["xing", "joined", "joined with tags", "joined, other rate", "data of 0 bytes", "data of 4 GB"],
)
def test_a_length_in_a_header_is_a_hint(content, seconds):
    found, remark = read(content)
    assert found == pytest.approx(seconds, abs=0.2)
    assert not remark or f"FFmpeg after {found:.1f} s" in remark


def second_file(container: str, subtype: str = "PCM_16") -> bytes:
    return encode_samples(tone(22050, 7.0, 880.0), 22050, container, subtype)


def test_a_second_flac_file_is_read_from_the_first_one_s_end_on():
    first = encode_samples(tone(22050, 7.0, 440.0), 22050, "FLAC", "PCM_16")
    samples, remark = decode(BytesSource(first + second_file("FLAC")), SETTINGS)
    assert len(samples) == 14 * 22050
    middle = 7 * 22050
    assert pitch_of(samples[:middle]) == pytest.approx(440, abs=1)
    assert pitch_of(samples[middle:]) == pytest.approx(880, abs=1)
    assert re.fullmatch(r"libsndfile stopped after 7\.0 s, .* before the end, FFmpeg after 14\.0 s", remark)


SAMPLES = riff_chunk(b"data", to_pcm16(tone(8000)))


@pytest.mark.parametrize(
    "content",
    [
        encode_tune("WAV", "PCM_16") + second_file("WAV"),
        encode_tune("AIFF", "PCM_16") + second_file("AIFF"),
        riff_file(fmt_chunk() + SAMPLES + riff_chunk(b"LIST", b"INFO") + SAMPLES),
        *(
            2 * encode_av(tone(44100), 44100, container, codec)
            for container, codec in (
                *(("ipod", "aac"), ("mov", "pcm_s16le"), ("flv", "libmp3lame")),
                *(("tta", "tta"), ("voc", "pcm_u8"), ("wv", "wavpack")),
            )
        ),
    ],
    ids=["joined WAV", "joined AIFF", "two chunks of samples", "MP4", "QuickTime", "FLV", "TTA", "VOC", "WavPack"],
)
def test_samples_that_neither_reader_reads_are_a_remark(content):
    seconds, remark = read(content)
    assert seconds == pytest.approx(6, abs=0.1)
    remark = remark.rpartition("; ")[2]
    assert re.fullmatch(r"[\d,]+ of [\d,]+ bytes are a second file or further samples, and were not read", remark)


def test_chunks_behind_the_samples_are_no_remark():
    assert read(encode_av(tone(8000), 8000, "wav", "adpcm_g726") + riff_chunk(b"LIST", b"INFO")) == (
        pytest.approx(6, abs=0.1),
        "",
    )


@pytest.mark.parametrize(
    "content",
    [
        encode_tune("W64", "PCM_16", seconds=12),
        encode_tune("RF64", "PCM_16", seconds=12),
        encode_tune("AU", "PCM_16", seconds=12),
        *(
            encode_av(make_tune(44100, seconds=12), 44100, container, codec)
            for container, codec in (("matroska", "alac"), ("tta", "tta"), ("wv", "wavpack"))
        ),
    ],
    ids=["Wave64", "RF64", "AU", "Matroska", "TTA", "WavPack"],
)
def test_a_file_that_is_cut_off_is_a_remark_where_its_header_has_its_length(content):
    assert read(content) == (12, "")
    seconds, remark = read(content[: len(content) * 3 // 4])
    missing = re.search(r"([\d.]+) of the 12\.0 s in the header are missing$", remark)
    assert missing
    assert float(missing[1]) == pytest.approx(12 - seconds, abs=0.1)
    assert seconds < 11


@pytest.mark.parametrize(
    ("container", "codec"),
    [("avi", "pcm_s16le"), ("caf", "pcm_s16le"), ("asf", "libmp3lame"), ("flv", "libmp3lame")],
)
def test_a_file_that_is_cut_off_is_a_remark_where_its_header_has_its_size(container, codec):
    content = encode_av(make_tune(44100, seconds=12), 44100, container, codec)
    assert read(content) == (pytest.approx(12, abs=0.1), "")
    seconds, remark = read(content[: len(content) * 3 // 4])
    assert seconds == pytest.approx(9, abs=0.3)
    assert re.search(r"[\d,.]+ of the [\d,.]+ (bytes|s) in the header are missing$", remark)


@pytest.mark.parametrize("excerpt", [{}, EXCERPT, {"excerpt_seconds": 99.0, "excerpt_position": "middle"}])
def test_samples_far_above_full_scale_are_a_remark(excerpt):
    loud = tone(22050, 9.0) / 0.4
    assert read(encode_samples(3 * loud, 22050, "WAV", "FLOAT"), **excerpt)[1] == ""
    remark = read(encode_samples(32767 * loud, 22050, "WAV", "FLOAT"), **excerpt)[1]
    assert remark == "the samples peak at 3.3e+04 of full scale"


def test_a_film_that_is_longer_than_its_sound_is_no_remark():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        sound, picture = out.add_stream("pcm_f32le", rate=8000, layout="mono"), out.add_stream("mjpeg", rate=1)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuvj420p"
        frame = av.AudioFrame.from_ndarray(tone(8000)[None], format="flt", layout="mono")
        frame.sample_rate = 8000
        out.mux([*sound.encode(frame), *sound.encode(None)])
        for _ in range(20):
            out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        out.mux(picture.encode(None))
    assert read(file.getvalue()) == (6, "")


def without_a_page(ogg: bytes) -> bytes:
    pages = [found.start() for found in re.finditer(b"OggS", ogg)]
    return ogg[: pages[len(pages) // 2]] + ogg[pages[len(pages) // 2 + 1] :]


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (
            without_a_page(encode_tune("OGG", "VORBIS", 44100, channels=2, seconds=12, compression_level=0)),
            r"0\.\d",
        ),
        (without_a_page(encode_tune("OGG", "OPUS", 48000, seconds=12)), r"1\.0"),
        (encode_tune("WAV", "PCM_16", 44100, seconds=12)[:-264_600], r"3\.0"),
        (encode_tune("AIFF", "PCM_16", 44100, seconds=12)[:-44_100], r"0\.5"),
        (encode_tune("FLAC", "PCM_16", 44100, seconds=12)[:-40_000], r"\d\.\d"),
    ],
    ids=["a page of Vorbis", "a page of Opus", "the end of a WAV", "the end of an AIFF", "the end of a FLAC"],
)
def test_what_is_missing_of_an_exact_length_is_a_remark(content, missing):
    assert re.fullmatch(rf"{missing} of the 12\.0 s in the header are missing", read(content)[1])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_every_stream_of_a_chained_ogg_file_is_read(subtype):
    parts = [
        b"".join(ogg_pages(encode_tune("OGG", subtype, 48000, channels), serial))
        for serial, channels in enumerate((1, 2, 1))
    ]
    samples, remark = decode(BytesSource(b"".join(parts)), SETTINGS)
    assert not remark
    separate = [decode(BytesSource(part), SETTINGS)[0] for part in parts]
    assert len(samples) == sum(map(len, separate))
    expected = np.concatenate(separate)
    # At equal rates the resampler runs on across the joints, which are at 6 and 12 s.
    near = np.abs(np.arange(len(samples)) / SAMPLE_RATE % 6 - 3) > 2.9
    np.testing.assert_allclose(samples[~near], expected[~near], rtol=0, atol=1e-6)


def test_where_both_readers_stop_the_remark_says_so():
    seconds, remark = read(MP3 + make_noise(9000))
    assert seconds == 8
    assert (
        remark == "libsndfile stopped after 8.0 s, 9,000 of 65,502 bytes before the end, and FFmpeg reads no more"
    )


def test_the_middle_of_a_file_that_is_longer_than_its_header_says_is_that_of_the_file():
    whole, _ = decode(BytesSource(MP3 + MP3), SETTINGS)
    assert len(whole) > 15 * SAMPLE_RATE
    middle, _ = decode(BytesSource(MP3 + MP3), SETTINGS.model_copy(update=EXCERPT))
    start = (len(whole) - len(middle)) // 2
    np.testing.assert_array_equal(middle, whole[start : start + len(middle)])


@pytest.mark.parametrize(
    "content",
    [
        MP3,
        MP3 + id3v1_tag(),
        MP3 + ape_tag(1, b"x" * 40_000) + id3v1_tag(),
        MP3 + b"LYRICSBEGIN" + b"x" * 40_000 + b"040011LYRICS200" + id3v1_tag(),
        MP3 + bytes(300_000),
        wav_file(to_pcm8(make_tune(8000)), bits=8) + riff_chunk(b"id3 ", make_noise(100_000)),
        encode_tune("AIFF", "PCM_S8") + b"ID3 \0\1\0\0" + make_noise(65536),
        encode_tune("OGG", "VORBIS"),
        encode_tune("FLAC", "PCM_16") + id3v1_tag(),
    ],
    ids=["mp3", "id3v1", "ape", "lyrics", "zeros", "wav", "aiff", "ogg", "flac"],
)
def test_tags_and_padding_at_the_end_are_no_reason_to_read_again(content, monkeypatch):
    monkeypatch.setattr(featurize.audio.load, "AvDecoder", None)
    for settings in ({}, EXCERPT | {"excerpt_seconds": 5.5}):
        assert read(content, **settings)[1] == ""


OPPOSITE = np.stack([make_tune(44100), -make_tune(44100)], axis=1)


@pytest.mark.parametrize(
    ("container", "subtype", "level"),
    [
        ("WAV", "PCM_16", 1),
        ("WAV", "PCM_16", 0.05),
        ("WAV", "PCM_U8", 1),
        ("FLAC", "PCM_24", 0.05),
        ("MP3", "MPEG_LAYER_III", 1),
        ("OGG", "VORBIS", 1),
        ("OGG", "VORBIS", 0.05),
    ],
)
def test_channels_that_cancel_are_rejected_unless_one_of_them_is_read(container, subtype, level):
    encoded = encode_samples(OPPOSITE * level, 44100, container, subtype)
    with pytest.raises(Reject, match="one is the inverse of another") as caught:
        read(encoded)
    assert (caught.value.stage, caught.value.reason) == ("check", "channels cancel")
    left, _ = decode(BytesSource(encoded), SETTINGS.model_copy(update={"channels": "left"}))
    right, _ = decode(BytesSource(encoded), SETTINGS.model_copy(update={"channels": "right"}))
    assert np.corrcoef(left, right)[0, 1] < -0.98
    assert np.abs(left).max() > 0.3 * level


def test_equal_channels_of_a_high_tone_do_not_cancel():
    high = tone(44100, 6.0, 21_000.0) + 0.01 * tone(44100)
    assert read(encode_samples(np.stack([high, high], 1), 44100, "WAV", "PCM_24")) == (6, "")


def test_only_cancelling_channels_are_rejected():
    left = make_tune(44100)
    for right in (left * 0, -0.5 * left, np.roll(-left, 300), left):
        encoded = encode_samples(np.stack([left, right], axis=1), 44100, "WAV", "PCM_16")
        assert read(encoded)[0] == pytest.approx(6, abs=1e-3)
    one_of_many = np.zeros((len(left), 64), np.float32)
    one_of_many[:, 7] = left
    assert read(encode_samples(one_of_many, 44100, "WAV", "PCM_16"))[0] == pytest.approx(6, abs=1e-3)


def test_left_and_right_of_one_channel_are_that_channel():
    encoded = encode_tune("WAV", "PCM_16")
    mean, _ = decode(BytesSource(encoded), SETTINGS)
    for channels in ("left", "right"):
        samples, _ = decode(BytesSource(encoded), SETTINGS.model_copy(update={"channels": channels}))
        np.testing.assert_array_equal(samples, mean)


def test_the_channels_are_stored_only_if_they_are_not_averaged():
    assert "channels" not in SETTINGS.model_dump()
    left = feature_settings(FeaturizeConfig(channels="left"))
    assert left.model_dump()["channels"] == "left"
    assert FeatureSettings.model_validate(left.model_dump()) == left
    assert FeatureSettings.model_validate(SETTINGS.model_dump()) == SETTINGS


def test_a_remark_is_stored_in_the_shard_and_kept_when_its_rows_are_copied(tmp_path):
    (tmp_path / "jazz").mkdir()
    damaged = aac(22050, 12)
    (tmp_path / "jazz" / "damaged.aac").write_bytes(patched(damaged, len(damaged) // 3, make_noise(60)))
    (tmp_path / "jazz" / "whole.mp3").write_bytes(MP3)
    paths = ["jazz/damaged.aac", "jazz/whole.mp3"]
    tracks = [Track(path, path, 0, (tmp_path / path).stat().st_size) for path in paths]
    folder = StoragePath.of(tmp_path / "features")
    (tmp_path / "features" / "shards").mkdir(parents=True)
    first, second = (shard_name(0, 0, digits * 16) for digits in "01")
    filters = Filters.from_librosa(SETTINGS)
    write_features(ShardPlan(first, StoragePath.of(tmp_path), tracks, SETTINGS), folder, filters)
    (remark,) = read_footer(folder, first).remarks
    assert remark.path == "jazz/damaged.aac"
    assert "skipped" in remark.message
    (tmp_path / "jazz" / "damaged.aac").unlink()  # its rows are copied
    write_features(ShardPlan(second, StoragePath.of(tmp_path), tracks[:1], SETTINGS, (first,)), folder, filters)
    assert read_footer(folder, second).remarks == [remark]


def test_a_wave_of_two_rates_in_a_row_is_as_long_as_its_parts():
    """The run of each rate becomes ceil(n * 22,050 / rate) samples, as a file of it would."""
    from featurize.audio.recording import Recording

    recording = Recording(SAMPLE_RATE)
    for rate, frames in ((44100, 4411), (8000, 1001), (SAMPLE_RATE, 17), (48000, 99)):
        recording.add(np.ones(frames, np.float32), rate)
    parts = [2206, 2760, 17, 46]
    assert len(recording.samples()) == sum(parts)
    assert recording.seconds == pytest.approx(4411 / 44100 + 1001 / 8000 + 17 / SAMPLE_RATE + 99 / 48000)
