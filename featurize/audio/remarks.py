"""Remarks on tracks that are used although something is wrong with them; a remark is empty if nothing is."""

from featurize.audio.reading import MUCH_SECONDS, Reading

_LITTLE_SECONDS = 0.1  # what may be missing without a remark
_MUCH_TOO_LOUD = 32  # of full scale; float files of loud mixes peak at 2 or 3
_LONGEST_CLAIM = 1e7  # seconds; a header that gives a longer track is not quoted


def stopped(reading: Reading) -> str:
    """Describe where libsndfile stopped, and what it left."""
    found = f"libsndfile stopped after {reading.seconds:.1f} s"
    if reading.claimed > reading.seconds + MUCH_SECONDS:
        claim = f"{reading.claimed:.1f} s" if reading.claimed < _LONGEST_CLAIM else "an impossible length"
        found += f" (the header says {claim})"
    elif reading.unread:
        found += f", {reading.unread:,} of {reading.size:,} bytes before the end"
    return found


def missing(reading: Reading) -> str:
    """Describe what is missing of a track that was read to its end: a damaged page, or the end of the file."""
    if reading.full or not reading.seconds + _LITTLE_SECONDS < reading.exact < _LONGEST_CLAIM:
        return ""
    return f"{reading.exact - reading.seconds:.1f} of the {reading.exact:.1f} s in the header are missing"


def cut(reading: Reading) -> str:
    """Describe what is missing of a track that FFmpeg read: the length in the header is exact to a second."""
    if reading.full:
        return ""
    if reading.seconds + MUCH_SECONDS < reading.claimed < _LONGEST_CLAIM:
        return f"{reading.claimed - reading.seconds:.1f} of the {reading.claimed:.1f} s in the header are missing"
    if not reading.is_much(reading.missing):
        return ""
    return f"{reading.missing:,} of the {reading.size + reading.missing:,} bytes in the header are missing"


def skipped(reading: Reading) -> str:
    """Describe damaged packets that were passed over."""
    if not reading.skipped:
        return ""
    return f"{reading.skipped} of {reading.skipped + reading.packets} packets are damaged and were skipped"


def later(reading: Reading) -> str:
    """Describe a second chunk of samples, or a second file, of which FFmpeg reads nothing."""
    if not reading.is_much(reading.unread):
        return ""
    return f"{reading.unread:,} of {reading.size:,} bytes are a second file or further samples, and were not read"


def too_loud(reading: Reading) -> str:
    """Describe samples far above full scale: integers that a program wrote as floats without dividing them."""
    return f"the samples peak at {reading.peak:.1e} of full scale" if reading.peak > _MUCH_TOO_LOUD else ""


def joined(*remarks: str) -> str:
    """Return the remarks that are not empty as one."""
    return "; ".join(remark for remark in remarks if remark)
