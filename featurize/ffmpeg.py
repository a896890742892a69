"""Open one file with FFmpeg, by way of PyAV, so that FFmpeg reads this file and opens nothing else."""

from collections.abc import Mapping
from typing import Any, NoReturn

from featurize.private_memory import limited_private_memory

# FFmpeg's demuxers that read one file and nothing else. Others open what the content of the file names: playlists
# and lists of files (hls, dash, concat), network sessions (sdp, rtsp), image sequences, subtitles.
_DEMUXERS = (
    "aac ac3 aiff amr amrnb amrwb ape asf au avi caf dsf dts dtshd eac3 flac flv iff loas matroska mov mp3 mpc "
    "mpc8 mpeg mpegts nut ogg oma qcp shn tak truehd tta voc w64 wav wv xwma"
)
_CONTAINER_OPTIONS = {
    "format_whitelist": _DEMUXERS.replace(" ", ","),
    "protocol_whitelist": "none",  # no such protocol: not even files
    "enable_drefs": "0",  # of mov: tracks whose samples are in other files
}


# To find the streams: large covers and the tables of long films need a tenth. A tag or a header that is compressed
# expands to a thousand times its bytes, each of many to 256 MiB.
_MOST_HEADER_BYTES = 512 << 20


def open_container(
    file: Any, seconds: float, options: Mapping[str, str] | None = None, metadata_errors: str = "ignore"
) -> Any:
    """Open a file and find its streams.

    Args:
        file: Binary file with `read`, `seek` and `tell`.
        seconds: Limit on the time to find the streams, and to read one packet.
        options: Other options of FFmpeg.
        metadata_errors: Handler for bytes of tags that are not UTF-8, as in `bytes.decode`.

    Returns:
        The `av.container.InputContainer`; the caller closes it.

    Raises:
        av.FFmpegError: No demuxer recognizes the file; an `av.ExitError` if that took too long.
        MemoryError: Its headers and tags take more than 512 MiB.
        ValueError: The file refers to other files.
    """
    import av  # slow to import, and not needed for most files

    with limited_private_memory(_MOST_HEADER_BYTES):
        return av.open(
            file,
            metadata_errors=metadata_errors,
            container_options={**_CONTAINER_OPTIONS, **(options or {})},
            timeout=seconds,
            io_open=_open_nothing,
        )


def _open_nothing(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    """Refuse to open what a file refers to; FFmpeg asks this in place of opening it."""
    raise ValueError("files that a file refers to are not opened")
