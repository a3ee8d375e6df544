"""The wheel holds what the commands need, and an index shows a page whose links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from grpo_project import __version__
from grpo_project.cli import main
from grpo_project.config import parse_configuration

ROOT = Path(__file__).parents[1]


def test_the_index_page_is_the_readme_without_links_that_lead_nowhere() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from index_page import index_page
    finally:
        sys.path.pop(0)
    page = (ROOT / "PACKAGE.md").read_text(encoding="utf-8")
    assert page == index_page((ROOT / "README.md").read_text(encoding="utf-8")), "run tools/index_page.py"
    assert all(link.startswith("http") for link in re.findall(r"\]\(([^)]+)\)", page))
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["readme"] == "PACKAGE.md"


def test_the_changelog_has_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_recipes_are_listed_and_printed_as_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"own_model", "slurm", "verilog_quickstart"} <= set(names)
    assert main(["recipe", "own_model"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert parse_configuration(["--config", str(tmp_path / "mine.yaml")]).run.model_name
    assert main(["recipe", "none_such"]) == 2
    assert "there are accelerate/fsdp2" in capsys.readouterr().err


@pytest.mark.slow
def test_the_wheel_holds_types_and_recipes(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    if "No module named pip" in done.stderr or "setuptools" in done.stderr:
        pytest.skip("pip and setuptools>=77 are needed to build a wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"grpo_project/py.typed", "grpo_project/assets/recipes/own_model.yaml"} <= names
    assert "grpo_project/assets/base_model/config.json" in names


@pytest.mark.slow
def test_self_check_finds_all_well(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["self-check"]) == 0
    printed = capfd.readouterr().out
    assert "all is well" in printed and "not checked" in printed and "DIFFER" not in printed
