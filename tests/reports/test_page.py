"""The page as a file: it holds what it needs, calls nobody, and what a model wrote stays text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from recorded_run import record_run

from grpo_project.cli import main
from grpo_project.reports.page import SCRIPTS, as_json, page_html

HOSTILE = """</script><script>alert('owned')</script>{{scripts}}<!-- " ' & <img src=x onerror=alert(1)> \u2028"""


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.fetched: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "script":
            self.scripts.append(found)
        self.fetched += [f"{tag} {name}" for name in found if name in ("src", "srcset", "data", "action")]
        if tag == "link":
            self.fetched.append("link")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_what_a_model_wrote_cannot_leave_the_data(tmp_path: Path, capsys) -> None:
    folder = record_run(tmp_path / "a 'b' <i>", code=HOSTILE, prompt=HOSTILE)
    assert main(["report", str(folder), "--title", HOSTILE]) == 0
    target = Path(capsys.readouterr().out.strip())
    assert target == folder / "report.html"
    page = target.read_text(encoding="utf-8")
    found = Elements()
    found.feed(page)
    assert [script.get("type") for script in found.scripts] == ["application/json", *[None] * len(SCRIPTS)]
    assert found.fetched == []
    assert "alert('owned')</script>" not in page
    data = next(text for text in found.texts if text.startswith('{"runs"'))
    assert "<" not in data
    assert json.loads(data)["runs"][0]["completions"]["groups"][0]["prompt"] == HOSTILE


def test_the_policy_names_each_script_and_lets_nothing_out() -> None:
    page = page_html("t", {"runs": [], "comparison": None})
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].count("sha256-") == len(SCRIPTS)
    assert "default-src &#x27;none&#x27;" in policy[1] and "connect-src &#x27;none&#x27;" in policy[1]
    assert "unsafe-inline" not in policy[1].split("style-src")[0]
    assert not re.search(r"https?://[^\"'\s]*\.(js|css|woff)", page.split('id="data"')[0])


def test_json_holds_no_nan_and_no_markup() -> None:
    text = as_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": "</script>&"})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": "</script>&"}
    assert not set("<>&") & set(text)


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path: Path, capsys) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err
