"""Files that name other files or hosts, which a decoder may open: playlists, sessions, lists, linked segments."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from hostile.encoders import RATE, make_tune


def referring_files(target: Path, port: int) -> Iterator[tuple[str, bytes]]:
    """Return what a file is, and its content.

    Args:
        target: Existing file of music that the files name, by its absolute path.
        port: Port of loopback that they name.
    """
    url = f"tcp://127.0.0.1:{port}"
    session = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    yield "SDP", f"{session}m=audio {port} RTP/AVP 0\n".encode()
    yield "SDP, multicast", session.replace("127.0.0.1", "239.1.2.3/1").encode() + b"m=audio 5004 RTP/AVP 14\n"
    for place in (str(target), f"file:{target}", f"http://127.0.0.1:{port}/a.ts", url):
        segment = f"#EXTINF:10,\n{place}\n#EXT-X-ENDLIST\n"
        yield f"HLS, {place[:5]}", f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n{segment}".encode()
        yield f"HLS, master, {place[:5]}", f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{place}\n".encode()
        key = f'#EXT-X-KEY:METHOD=AES-128,URI="{place}"\n'
        yield f"HLS, key, {place[:5]}", f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n{key}{segment}".encode()
        yield f"ffconcat, {place[:5]}", f"ffconcat version 1.0\nfile '{place}'\n".encode()
        yield f"DASH, {place[:5]}", _dash(place)
    yield "ffconcat, images", f"ffconcat version 1.0\nfile '{target.parent}/%d.png'\n".encode()
    # Without a name, the folder of the file is unknown, and a relative name is below the working directory.
    yield "ffconcat, relative", f"ffconcat version 1.0\nfile '{target.name}'\n".encode()
    yield "ffconcat, a list", b"ffconcat version 1.0\nfile 'list.m3u8'\n"
    yield "list of RTSP", f"#EXTM3U\nrtsp://127.0.0.1:{port}/x\n".encode()
    yield "RTSP in a mov", f"RTSPtext\nrtsp://127.0.0.1:{port}/x\n".encode()
    yield "RealMedia list", f"rtsp://127.0.0.1:{port}/x.rm\n".encode()
    yield "ASX", f'<ASX version="3.0"><entry><ref href="{url}"/></entry></ASX>'.encode()
    yield "ISM", f'<SmoothStreamingMedia MajorVersion="2" Url="{url}"/>'.encode()
    yield (
        "VobSub",
        b"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\ntimestamp: 00:00:01:000, ",
    )
    yield "subtitles", f"<SAMI><BODY><SYNC Start=0><P><img src='{target}'></SYNC></BODY></SAMI>".encode()
    yield "ASS", f"[Script Info]\nScriptType: v4.00+\nAudio File: {target}\n[Events]\n".encode()
    yield "Matroska, linked", _linked_matroska(target)
    yield "QuickTime, samples elsewhere", _elsewhere(target)


def _dash(place: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT10S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
        f"{place}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ).encode()


def _linked_matroska(target: Path) -> bytes:
    """A Matroska file with no media, whose segment says that the previous and the next one are in other files."""
    name = str(target).encode()
    info = _element("73a4", b"1" * 16) + _element("3eb923", b"2" * 16) + _element("3e83bb", name)
    info += _element("3cb923", b"3" * 16) + _element("3c83ab", name) + _element("2ad7b1", b"\x0f\x42\x40")
    edition = _element("45b9", _element("45dd", b"\1") + _element("b6", _element("6e67", b"2" * 16)))
    segment = _element("1549a966", info) + _element("1043a770", edition)
    return _element("1a45dfa3", _element("4282", b"matroska")) + _element("18538067", segment)


def _element(identifier: str, content: bytes) -> bytes:
    return bytes.fromhex(identifier) + (len(content) | 1 << 56).to_bytes(8, "big") + content


def encode_av(path: Path, container: str, codec: str, streams: int = 1, rate: int = RATE) -> bytes:
    """Encode six seconds with FFmpeg into each of some streams."""
    with av.open(str(path), "w", format=container) as file:
        outputs = [file.add_stream(codec, rate=rate, layout="mono", bit_rate=64_000) for _ in range(streams)]
        samples = (make_tune(rate) * 2**15).astype(np.int16)[None]
        for output in outputs:
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.rate = rate
            file.mux(output.encode(frame))
            file.mux(output.encode(None))
    return path.read_bytes()


def _elsewhere(target: Path) -> bytes:
    """A QuickTime file whose sample table refers to the bytes of another file."""
    mov = encode_av(target.parent.parent / "inside.mov", "mov", "pcm_s16le")
    entry = b"alis" + bytes(4)
    assert mov.count(entry) <= 1
    if entry not in mov:
        entry = b"url \0\0\0\1"
    position = mov.index(entry)
    path = str(target).encode()
    # An alias record: fixed fields, then type 2 (the path) and type -1 (the end).
    alias = bytes(4) + b"\0" * 146 + b"\0\2" + len(path).to_bytes(2, "big") + path + b"\0" * (len(path) % 2)
    alias += b"\xff\xff\0\0"
    record = (len(alias) + 12).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    grown = len(record) - 12
    mov = mov[: position - 4] + record + mov[position + 8 :]
    for name in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = mov.rindex(name, 0, position + len(record))
        mov = mov[: at - 4] + (int.from_bytes(mov[at - 4 : at], "big") + grown).to_bytes(4, "big") + mov[at:]
    return mov
