"""Random changes to the bytes of a file, the same for the same seed."""

import random

TOKENS = (
    b"",
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"null",
    b"[" * 3000,
    b"{",
    b"}",
    b'"',
    b"\n",
    b": &a [*a, *a]",
    b"\x1b]52;c;eA==\x07",
    b"../../etc/passwd",
    b"s3://other/x?endpoint_override=http://127.0.0.1:9",
    b"9" * 5000,
)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return content with one to six changes: bits, bytes, numbers, tokens, parts removed, repeated and moved."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        # Most formats have what matters at the beginning and at the end.
        span = min(len(changed), chance.choice([64, 1024, len(changed) or 1]))
        where = chance.randrange(span + 1)
        if chance.random() < 0.3:
            where = len(changed) - where
        length = chance.choice([1, 2, 4, 8, chance.randint(1, 4096)])
        match chance.randrange(7):
            case 0 if where < len(changed):
                changed[where] ^= 1 << chance.randrange(8)
            case 1:
                changed[where : where + length] = chance.randbytes(length)
            case 2:
                number = chance.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 1 << 31, (1 << 32) - 1])
                changed[where : where + 4] = number.to_bytes(4, chance.choice(["big", "little"]))
            case 3:
                changed[where:where] = chance.choice(TOKENS)
            case 4:
                del changed[where : where + length]
            case 5:
                changed[where:where] = changed[where : where + length] * chance.randint(1, 20)
            case 6 if chance.random() < 0.3:
                del changed[where:]
    return bytes(changed)
