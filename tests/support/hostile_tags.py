"""Audio files whose tags are attacks: bombs, endless nesting, values of a kind that no reader expects."""

import struct
import zlib


def _synchsafe(number: int) -> bytes:
    return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))


def compressed_id3(size: int) -> bytes:
    """An MP3 whose artist frame is a thousandth of the `size` bytes that it expands to."""
    packer, zeros = zlib.compressobj(1), b"\0" * (1 << 20)
    packed = b"".join(packer.compress(zeros) for _ in range(size >> 20)) + packer.flush()
    body = _synchsafe(min(size, (1 << 28) - 1)) + packed
    frame = b"TPE1" + _synchsafe(len(body)) + bytes([0, 0x09]) + body  # compressed, with a length
    return b"ID3\x04\0\0" + _synchsafe(len(frame)) + frame + b"\xff\xfb\x90\0" * 500


def nested_mp4(depth: int = 3000) -> bytes:
    """An MP4 whose movie is in a movie, and so on."""
    atom = b""
    for _ in range(depth):
        atom = struct.pack(">I4s", len(atom) + 8, b"moov") + atom
    return struct.pack(">I4s4sI", 16, b"ftyp", b"M4A ", 0) + atom


def external_ape(artist: bytes = b"http://127.0.0.1:9/artist") -> bytes:
    """A Monkey's Audio file whose artist is a reference to another file."""
    item = struct.pack("<II", len(artist), 2 << 1) + b"Artist\0" + artist
    footer = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(item) + 32, 1, 0)
    header = struct.pack("<4sH", b"MAC ", 3990) + bytes(80)
    return header + bytes(4000) + item + footer


def _flac(kind: int, block: bytes) -> bytes:
    """A FLAC file with a STREAMINFO block and another one."""
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + bytes.fromhex("0ac442f0") + bytes(4) + bytes(16)
    return b"fLaC\0\0\0\x22" + info + bytes([0x80 | kind]) + struct.pack(">I", len(block))[1:] + block


def comments(*entries: str) -> bytes:
    """A FLAC file without samples whose comments are `key=value`."""
    texts = [struct.pack("<I", len(entry.encode())) + entry.encode() for entry in entries]
    return _flac(4, struct.pack("<II", 0, len(texts)) + b"".join(texts))


def many_comments(count: int = 0xFFFFFFFF) -> bytes:
    """A FLAC file that claims four billion comments."""
    return _flac(4, struct.pack("<I", 0) + struct.pack("<I", count) + b"\x02\0\0\0a=" * 100)


def huge_picture(claimed: int = 0xFFFFFFF0) -> bytes:
    """A FLAC file with a picture that claims four gigabytes."""
    head = struct.pack(">II", 3, 9) + b"image/png" + struct.pack(">I", 0) + struct.pack(">IIII", 1, 1, 24, 0)
    return _flac(6, head + struct.pack(">I", claimed) + b"\x89PNG" * 100)


def many_compressed_id3(frames: int) -> bytes:
    """An MP3 with texts of 256 MiB each, which are compressed to a thousandth."""
    body = b""
    block, packer = b"a" * (1 << 20), zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # may be repeated
    for number in range(frames):
        start = f"\0name {number}\0".encode()
        checksum = zlib.adler32(start)
        for _ in range(255):
            checksum = zlib.adler32(block, checksum)
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        stream = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) + 255 * packed + b"\x03\0"
        stream = _synchsafe(len(start) + 255 * len(block)) + b"\x78\xda" + stream + struct.pack(">I", checksum)
        body += b"TXXX" + _synchsafe(len(stream)) + bytes([0, 0x09]) + stream
    return b"ID3\x04\0\0" + _synchsafe(len(body)) + body
