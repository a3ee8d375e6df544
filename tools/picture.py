"""A picture of a report page, or of one of its figures, for the README and the docs. Needs Debian's Chromium.

python tools/picture.py runs/default/report.html docs/report.png --height 860
python tools/picture.py seeds.html docs/learning.png --figure compare-learning --width 900 --height 480
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DRAWING_MS = 8000  # of the page's own clock, which Chromium runs as fast as it can


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="what grpo report has written")
    parser.add_argument("picture", type=Path, help="where the PNG goes")
    parser.add_argument("--figure", help="the id of one figure; default: the top of the page")
    parser.add_argument("--width", type=int, default=1280, help="in CSS pixels; the picture has twice as many")
    parser.add_argument("--height", type=int, default=900)
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no Chromium on the PATH (Debian: apt-get install chromium), nor in CHROMIUM")
    address = options.page.resolve().as_uri() + (f"#picture={options.figure}" if options.figure else "")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(chromium, *SWITCHES, f"--user-data-dir={profile}", f"--screenshot={options.picture.resolve()}"),
            *(f"--window-size={options.width},{options.height}", "--force-device-scale-factor=2"),
            *(f"--virtual-time-budget={DRAWING_MS}", address),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
