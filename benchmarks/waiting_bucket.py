"""An S3 server on this machine that waits before each answer, as a bucket far away does; it serves a folder.

    python -m benchmarks.waiting_bucket FOLDER SECONDS

Prints its port, then serves `s3://bucket/...` from the folder until standard input is closed. Only reading is
supported: HEAD, GET with ranges, and listing. `GET /requests` returns, as JSON, how many requests came, by kind,
and how many bytes were sent.
"""

import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from xml.sax.saxutils import escape

BUCKET = "bucket"
_PAGE = 1000  # objects in one answer to a listing


@contextlib.contextmanager
def waiting_bucket(folder: Path, seconds: float) -> Iterator[str]:
    """Serve a folder in another process, and set keys for it; return its address, as `endpoint_override` takes it.

    Args:
        folder: Folder whose files are the objects of the bucket.
        seconds: Time to wait before each answer.
    """
    command = [sys.executable, "-m", "benchmarks.waiting_bucket", str(folder), str(seconds)]
    root = Path(__file__).parent.parent
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.stdin.close()


def uri(address: str, path: str = "") -> str:
    """Return the URI of an object or folder in the bucket."""
    return f"s3://{BUCKET}/{path}?endpoint_override={address}"


def requests(address: str) -> Counter[str]:
    """Return how many requests the server has had, by kind (HEAD, GET and LIST), and the `bytes` it has sent."""
    with urllib.request.urlopen(f"{address}/requests") as answer:
        return Counter(json.load(answer))


def main() -> None:
    """Serve until standard input is closed."""
    folder, seconds = sys.argv[1:]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(Path(folder), float(seconds)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


def _handler(root: Path, seconds: float) -> type[http.server.BaseHTTPRequestHandler]:
    counts: Counter[str] = Counter()
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            place = urllib.parse.urlsplit(self.path)
            if place.path == "/requests":
                self._answer(200, json.dumps(counts).encode())
                return
            time.sleep(seconds)
            key = urllib.parse.unquote(place.path).removeprefix(f"/{BUCKET}").strip("/")
            if place.query and self.command == "GET":
                counts["LIST"] += 1
                self._answer(200, _listing(files, dict(urllib.parse.parse_qsl(place.query))).encode())
                return
            counts[self.command] += 1
            if key not in files:
                self._answer(404, b"")
                return
            content = files[key].read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked:
                first, last = int(asked[1]), int(asked[2] or len(content) - 1)
                part = content[first : last + 1]
                self._answer(206, part, f"bytes {first}-{first + len(part) - 1}/{len(content)}")
            else:
                self._answer(200, content)

        def _answer(self, status: int, content: bytes, range_: str = "") -> None:
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Last-Modified", formatdate(0, usegmt=True))
            if range_:
                self.send_header("Content-Range", range_)
            self.end_headers()
            if self.command != "HEAD":
                counts["bytes"] += len(content)
                self.wfile.write(content)

    return Handler


def _listing(files: dict[str, Path], query: dict[str, str]) -> str:
    """Return the answer to ListObjectsV2; with the delimiter `/`, only what is directly below the prefix."""
    prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
    names = [name for name in files if name.startswith(prefix)]
    if query.get("delimiter"):
        parts = [name[len(prefix) :].partition("/") for name in names]
        names = sorted({f"{prefix}{part}{slash}" for part, slash, _ in parts})
    names = [name for name in names if name > after]
    page = names[: min(_PAGE, int(query.get("max-keys", _PAGE)))]
    objects = "".join(
        f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        if name.endswith("/")
        else f"<Contents><Key>{escape(name)}</Key><Size>{files[name].stat().st_size}</Size>"
        "<LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
        for name in page
    )
    more = len(page) < len(names)
    token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{objects}{token}</ListBucketResult>"
    )


if __name__ == "__main__":
    main()
