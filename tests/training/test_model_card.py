"""The README.md beside the trained model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from recorded_run import record_run

from grpo_project.record.run_record import RunRecord
from grpo_project.training.model_card import licence_of, model_card


def front_of(card: str) -> dict[str, object]:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_of_the_embedded_model_tells_what_was_measured(tmp_path: Path) -> None:
    card = model_card(record_run(tmp_path / "run", ((0, 7), (5, 20))))
    assert "None" not in card
    front = front_of(card)
    assert front["license"] == "apache-2.0" and "base_model" not in front
    assert "4 held-out problems (builtin)" in card
    assert "| all | 4 | 0.000 [0.000, " in card and "| 0.875 [0." in card
    assert "| foundation | 2 | 0.000 | 0.875 |" in card
    assert "| Curriculum | foundation to elementary |" in card
    assert "`grpo train --seed 1`" in card
    assert "| Interruptions | 1, 2 steps done again |" in card
    assert "AutoModelForCausalLM.from_pretrained('run')" in card


@pytest.mark.parametrize(
    ("readme", "expected"),
    [
        ("---\nlicense: mit\ntags: [a]\n---\n# M\n", "mit"),
        ("---\ntags: [a]\n---\n# M\n", None),
        ("# no front matter\n---\nlicense: mit\n---\n", None),
        ("---\nlicense: [\n---\n", None),
        (None, None),
    ],
)
def test_the_bases_licence_is_what_its_own_card_says(tmp_path: Path, readme: str | None, expected: str | None) -> None:
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    assert licence_of(str(tmp_path)) == expected


def test_a_base_of_the_hub_is_named_and_an_unknown_licence_is_said(tmp_path: Path) -> None:
    folder = record_run(tmp_path / "run", every=0)
    (folder / "adapter_config.json").write_text("{}")
    record = RunRecord.read(folder)
    assert record is not None
    record.content["config"]["run"]["model_name"] = "nobody/no-such-model"
    record.write()
    card = model_card(folder)
    assert front_of(card)["base_model"] == "nobody/no-such-model"
    assert "license" not in front_of(card) and "look it up before you share" in card
    assert "No evaluation was made" in card
    assert "AutoPeftModelForCausalLM" in card
