"""What ``run.json`` says about process starts."""

from __future__ import annotations

from pathlib import Path

from grpo_project.config import parse_configuration
from grpo_project.record.run_record import RunRecord


def test_flags_that_changed_between_starts_are_noted_and_no_secret_is(tmp_path: Path) -> None:
    def flags(rate: float) -> dict[str, dict[str, object]]:
        return {"grpo": {"learning_rate": rate, "seed": 1, "api_key": "0123456789abcdef"}, "run": {"reward": "mixed"}}

    record = RunRecord.create(tmp_path, flags(0.1), {})
    record.begin_attempt(0, None, 0, flags(0.1))
    record = RunRecord.read(tmp_path)
    assert record is not None
    command = ["grpo", "train", "--hub_token", "abcdef0123456789"]
    record.begin_attempt(1, 5, 7, flags(0.2), command=command)
    read = RunRecord.read(tmp_path)
    assert read is not None
    assert [start["config_changes"] for start in read.attempts] == [{}, {"grpo.learning_rate": [0.1, 0.2]}]
    assert read.content["config"]["grpo"]["learning_rate"] == 0.2
    assert "0123456789" not in (tmp_path / "run.json").read_text()


def test_the_command_is_told_as_it_was_typed(tmp_path: Path) -> None:
    typed = ["--output_dir", str(tmp_path / "a b"), "--max_steps=3"]
    assert parse_configuration(typed).command == ["grpo", "train", *typed]
