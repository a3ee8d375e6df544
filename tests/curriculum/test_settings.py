"""The curriculum file: what it says, its defaults, and errors that name the field."""

import json
from pathlib import Path

import pytest
import yaml

from grpo_project.curriculum import CurriculumSettings, Stage, default_curriculum_yaml, load_curriculum
from grpo_project.curriculum.settings import curriculum_yaml
from grpo_project.errors import ConfigError

FULL = {
    "sampler": "staged",
    "final_mixed": False,
    "on_stall": "relax",
    "patience": 4,
    "stages": [
        {"name": "easy", "complexity": [0, 4], "threshold": 0.8, "min_evaluations": 2, "max_steps": 500},
        {"name": "lists", "tags": ["list", "tuple"], "threshold": 0.6, "rehearsal": 0.5, "preview": 0},
        {"name": "rest", "levels": ["expert", "unknown"]},
    ],
}


def write(tmp_path, content, name="c.yaml"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_yaml_and_json_say_the_same(tmp_path):
    from_json = load_curriculum(write(tmp_path, FULL, "c.json"))
    from_yaml = load_curriculum(write(tmp_path, yaml.safe_dump(FULL)))
    assert from_json == from_yaml
    assert from_json.stages[0] == Stage("easy", complexity=(0.0, 4.0), threshold=0.8, min_evaluations=2, max_steps=500)
    assert from_json.all_stages == from_json.stages


def test_the_printed_defaults_read_back_as_the_defaults(tmp_path):
    assert load_curriculum(write(tmp_path, default_curriculum_yaml())) == CurriculumSettings() == load_curriculum(None)
    settings = load_curriculum(write(tmp_path, FULL))
    assert load_curriculum(write(tmp_path, curriculum_yaml(settings))) == settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samplr": "x"}, "curriculum field samplr is unknown; did you mean 'sampler'?"),
        ({"sampler": "best"}, "sampler is 'best'; it must be one of learnable, staged, uniform"),
        ({"gate": "threshold"}, "gate is 'threshold'; there is one gate now, which goes by confidence bounds"),
        ({"on_stall": True}, "on_stall is True; it must be a text"),
        ({"on_stall": "cry"}, "on_stall is 'cry'; it must be one of warn, relax, advance, stop"),
        ({"alpha": 0.7}, "alpha is 0.7; it must be between 0 and 0.5"),
        ({"alpha": "5%"}, "alpha is '5%'; it must be a number"),
        ({"patience": 2.5}, "patience is 2.5; it must be a whole number"),
        ({"patience": 1}, "patience is 1; it must be at least 2"),
        ({"probe_share": 0}, "probe_share is 0.0; it must be above 0"),
        ({"sorting_share": 1}, "sorting_share is 1.0; it must be from 0 to below 1"),
        ({"step_back": True}, "step_back is True; training does not go back to an earlier stage any more"),
        ({"final_mixed": "yes"}, "final_mixed is 'yes'; it must be true or false"),
        ({"stages": []}, "stages is 'an empty list'; it must be at least one stage"),
        ({"stages": {}}, "stages is {}; it must be a list of stages"),
        ({"stages": ["easy"]}, "stages[0] is 'easy'; it must be a mapping"),
        ({"stages": [{"threshold": 0.5}]}, "stages[0].name is None; it must be given"),
        ({"stages": [{"name": "a", "treshold": 0.5}]}, "stages[0].treshold is unknown; did you mean 'threshold'?"),
        ({"stages": [{"name": "a", "threshold": 1}]}, "stages[0].threshold is 1.0; it must be from 0 to below 1"),
        ({"stages": [{"name": "a", "threshold": float("nan")}]}, "stages[0].threshold is nan; it must be a number"),
        ({"stages": [{"name": "a"}]}, "stages[0].threshold is None; it must be set"),
        ({"stages": [{"name": "a", "threshold": 0.5}] * 2}, "stages with names of their own"),
        ({"stages": [{"name": "mixed", "threshold": 0.5}]}, "stages with names of their own"),
        ({"stages": [{"name": "a", "threshold": 0.5, "levels": ["expart"]}]}, "stages[0].levels is 'expart'"),
        ({"stages": [{"name": "a", "threshold": 0.5, "levels": "expert"}]}, "levels is 'expert'; it must be a list"),
        ({"stages": [{"name": "a", "threshold": 0.5, "complexity": [4, 2]}]}, "stages[0].complexity is [4.0, 2.0]"),
        ({"stages": [{"name": "a", "threshold": 0.5, "complexity": [4]}]}, "it must be a list of two numbers"),
        ({"stages": [{"name": "a", "threshold": 0.5, "max_steps": 0}]}, "stages[0].max_steps is 0"),
        ({"stages": [{"name": "a", "threshold": 0.5, "min_evaluations": -1}]}, "stages[0].min_evaluations is -1"),
        ({"stages": [{"name": "a", "threshold": 0.5, "rehearsal": 0.8}]}, "it must be below 1, or nothing is left"),
    ],
)
def test_errors_name_the_file_the_field_and_what_is_allowed(tmp_path, changes, message):
    path = write(tmp_path, yaml.safe_dump(changes))
    with pytest.raises(ConfigError) as caught:
        load_curriculum(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is None; it must be a mapping"),
        ("- a", "the file is ['a']; it must be a mapping"),
        ("alpha: [", "is neither YAML nor JSON"),
        ("alpha: 0.1\nalpha: 0.2", "the key 'alpha' appears twice"),
        ("? [a, b]\n: 1", "a key is not a plain word"),
        ("!!python/object/apply:os.getcwd []", "is neither YAML nor JSON"),
    ],
)
def test_files_that_are_no_curriculum(tmp_path, content, message):
    with pytest.raises(ConfigError, match=r"c\.yaml") as caught:
        load_curriculum(write(tmp_path, content))
    assert message in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: can't be read \(No such file"):
        load_curriculum(tmp_path / "none.yaml")


def test_the_documented_file_is_one(tmp_path):
    document = (Path(__file__).parents[2] / "docs" / "curriculum.md").read_text(encoding="utf-8")
    example = document.split("```yaml\n")[1].split("```")[0]
    settings = load_curriculum(write(tmp_path, example))
    assert [stage.name for stage in settings.all_stages] == ["warm-up", "lists", "mixed"]
    defaults = CurriculumSettings()
    shown = {name: getattr(settings, name) for name in yaml.safe_load(example) if name != "stages"}
    assert shown == {name: getattr(defaults, name) for name in shown}, "it shows the defaults"


def test_a_file_that_version_0_1_0_printed_means_the_same(tmp_path):
    """It had a second gate: ``gate`` chose one, and ``window`` was the other's."""
    stages = [{"name": "easy", "levels": ["foundation"], "threshold": 0.7, "window": 3}]
    older = load_curriculum(
        write(tmp_path, {"gate": "confident", "step_back": False, "hysteresis": 0.1, "stages": stages})
    )
    assert older == CurriculumSettings(stages=(Stage("easy", ("foundation",), threshold=0.7),))
