"""Flags of the curriculum do what they say, or are named where they do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from grpo_project.cli import main
from grpo_project.config import parse_configuration
from grpo_project.training.plan import make_plan


def test_the_printed_curriculum_is_the_one_that_a_run_with_these_flags_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--print_curriculum", "--curriculum_threshold", "0.25", "--on_stall", "relax"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert {stage["threshold"] for stage in printed["stages"]} == {0.25}
    assert printed["on_stall"] == "relax"


def test_a_printed_curriculum_that_is_turned_off_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--print_curriculum", "--enable_curriculum", "false"]) == 0
    assert capsys.readouterr().out.startswith("# --enable_curriculum false: a run with these flags does not use it.\n")


def test_flags_of_a_curriculum_that_is_turned_off_are_named(tmp_path: Path) -> None:
    flags = ["--output_dir", str(tmp_path), "--use_cpu", "--on_stall", "stop", "--curriculum_threshold", "0.5"]
    assert make_plan(parse_configuration(flags)).notes == ()
    notes = make_plan(parse_configuration([*flags, "--enable_curriculum", "false"])).notes
    assert notes == ("without effect, since --enable_curriculum is false: --curriculum_threshold 0.5 --on_stall stop",)
