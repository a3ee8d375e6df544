"""The READMEs say what is true: their problems load, their commands and files exist, the two are in step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from grpo_project.cli import COMMANDS
from grpo_project.problems.formats import load_problems
from grpo_project.verifier import Job, Verifier

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README.zh-CN.md"]


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("name", READMES)
def test_the_shown_problems_load_and_the_solution_passes(name: str, tmp_path: Path) -> None:
    (shown,) = blocks(name, "json")
    (tmp_path / "problems.json").write_text(shown, encoding="utf-8")  # as it is pasted
    problems = load_problems(tmp_path / "problems.json")
    assert [problem.id for problem in problems] == ["clip-1", "even-1", "sum-1"]
    with Verifier(workers=1) as verifier:
        assert verifier.verify(Job(problems[0], problems[0].solution or "")).solved


@pytest.mark.parametrize("name", READMES)
def test_commands_and_links_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert {command for command in re.findall(r"`grpo ([a-z-]+)", text)} <= set(COMMANDS)
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / link).exists(), link


def test_both_commands_stand_in_the_first_25_lines() -> None:
    for name in READMES:
        start = "\n".join((ROOT / name).read_text(encoding="utf-8").splitlines()[:25])
        assert "make train" in start and "make test" in start


def test_the_chinese_readme_is_in_step() -> None:
    english, chinese = (
        [re.sub(r"#.*", "", block) for language in ("bash", "json", "python") for block in blocks(name, language)]
        for name in READMES
    )
    assert english == chinese
