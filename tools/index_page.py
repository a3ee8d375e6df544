"""Writes PACKAGE.md, what a package index shows: the README without pictures and without links into this repository.

    python tools/index_page.py

An index page has no files beside it, and the project has no public address yet that links could lead to: they become
their text. ``tests/test_package.py`` says when the page is stale.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def index_page(readme: str) -> str:
    """The README with absolute links only."""
    without_pictures = re.sub(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n+", "", readme, flags=re.M)
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", without_pictures)


if __name__ == "__main__":
    (ROOT / "PACKAGE.md").write_text(index_page((ROOT / "README.md").read_text(encoding="utf-8")), encoding="utf-8")
