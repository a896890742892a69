"""The picture in README.md: the report of `earmark demo`, whose music is synthesized, in headless Chromium.

    make picture                              # runs the demo first, a minute or two
    python docs/report_picture.py --run RUN   # of a run that is there

Writes docs/report.png.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parent / "report.png"
WIDTH, HEIGHT = 1280, 1760  # the summary, the confusion matrices, the table of classes, and the first tracks
COLORS = 256  # of a page without photographs, which looks the same and has a third of the bytes


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a run with a report (default: run the demo)")
    parser.add_argument("--out", type=Path, default=PICTURE, help="PNG file to write")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is not installed. Install it (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run
        if run is None:
            run = Path(folder) / "demo" / "run"
            subprocess.run([sys.executable, "-m", "earmark", "demo", "--out", str(run.parent)], check=True)
        shot = Path(folder) / "shot.png"
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=5000", f"--screenshot={shot}"]
        subprocess.run([*command, (run / "report.html").resolve().as_uri()], check=True, timeout=120)
        with Image.open(shot) as image:
            picture = image.convert("RGB").quantize(COLORS)
        picture.save(arguments.out, optimize=True)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
