"""How large a file is by the header of its container, which tells whether it was cut off."""

from featurize.audio.source import BytesSource, Source

_UNKNOWN_BYTES = 0x7FFF0000  # programs that write to a pipe say about this or more, or 0
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_HEADER_BYTES = 1 << 16
_MOST_CHUNKS = 1000


def promised_bytes(source: Source | BytesSource) -> int:
    """Return the size of a RIFF (WAV, AVI), CAF or ASF (WMA) file by its header; 0 if it does not give one."""
    source.seek(0)
    header = source.read(_HEADER_BYTES)
    if header.startswith(b"RIFF"):
        return _end_of_riff(source)
    if header.startswith(b"caff"):
        return _end_of_caf(source)
    if header.startswith(_ASF) and (properties := header.find(_ASF_PROPERTIES)) > 0:
        return int.from_bytes(header[properties + 40 : properties + 48], "little")
    return 0


def _end_of_riff(source: Source | BytesSource) -> int:
    """Return the end of the last RIFF chunk; a long AVI file has several."""
    end = 0
    for _ in range(_MOST_CHUNKS):
        source.seek(end)
        header = source.read(8)
        if not header.startswith(b"RIFF"):
            break
        length = int.from_bytes(header[4:8], "little")
        if not 0 < length < _UNKNOWN_BYTES:
            return 0
        end += 8 + length
    return end


def _end_of_caf(source: Source | BytesSource) -> int:
    """Return the end of the last chunk that begins in the file."""
    end = 8
    for _ in range(_MOST_CHUNKS):
        source.seek(end)
        header = source.read(12)
        length = int.from_bytes(header[4:], "big", signed=True)
        if len(header) < 12:
            break
        if length < 0:
            return 0
        end += 12 + length
    return end
