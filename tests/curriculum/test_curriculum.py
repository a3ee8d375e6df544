"""The facade: what is said, what is refused, and odd data sets."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from learners import HELDOUT_RATES, group_result, problems_of

from grpo_project.curriculum import Curriculum, CurriculumSettings, Decision, GroupResult, Stage, UniformSource
from grpo_project.errors import CheckpointError, ConfigError
from grpo_project.problems.problem import LEVELS
from grpo_project.problems.quickstart import builtin_problems
from grpo_project.verifier.verdict import Status

TRAIN = problems_of(20)


def solve(curriculum, step, rate=1.0, n=8):
    """One step in which each group solves its problem in ``rate`` of the completions."""
    groups = [
        group_result(problem, [1.0] * round(8 * rate) + [0.0] * round(8 - 8 * rate)) for problem in curriculum.draw(n)
    ]
    return curriculum.observe_rollouts(step, groups)


def test_a_decision_says_everything():
    curriculum = Curriculum(TRAIN, seed=0)
    held = curriculum.observe_evaluation(0, 0.5, 40, HELDOUT_RATES)
    assert (held.action, held.stage, held.next_stage, held.threshold) == ("hold", "foundation", "foundation", 0.7)
    assert held.evidence == pytest.approx(0.75)
    assert held.interval[0] < 0.75 < held.interval[1]
    assert held.missing == "a lower confidence bound above 0.70"
    assert held.reason == "missing to advance: a lower confidence bound above 0.70"
    moved = next(move for step in range(1, 100) if (move := solve(curriculum, step)))
    assert (moved.action, moved.stage, moved.next_stage, moved.missing) == ("advance", "foundation", "elementary", "")
    assert moved.reason == "the pass rate of stage foundation is above its threshold of 0.70"
    event = json.loads(json.dumps(moved.to_event(), allow_nan=False))
    assert Decision.from_event(event | {"attempt": 0, "time": 1.5}) == moved


def test_a_decision_explains_itself_from_the_journal_alone():
    decision = Decision("hold", 50, "foundation", "foundation", 0.61, (0.52, 0.7), 83.0, 0.65, "r", "more", "gate")
    assert decision.explain() == (
        "In stage foundation at step 50: pass rate 0.61 (0.52 to 0.70, from 83 results), threshold 0.65; "
        "missing to advance: more."
    )
    moved = replace(decision, action="advance", next_stage="elementary", reason="it was time", interval=None)
    assert (
        moved.explain() == "In stage elementary since step 50, because it was time (pass rate 0.61 (from 83 results))."
    )
    last = replace(decision, stage="mixed", next_stage="mixed", threshold=None, evidence=None)
    assert last.explain() == "In stage mixed, the last one, at step 50: no evidence yet."


def test_explain_answers_why_training_is_still_here():
    curriculum = Curriculum(TRAIN, seed=0)
    assert curriculum.explain() == (
        "Stage foundation (1 of 6) since step 0: no evidence yet, threshold 0.70; missing to advance: "
        "1 more evaluation(s) of the stage's problems (at least 1)."
    )
    curriculum.observe_evaluation(25, 0.5, 40, HELDOUT_RATES)
    assert "pass rate 0.75 (" in curriculum.explain()
    assert "from 8 results), threshold 0.70; missing to advance: a lower" in curriculum.explain()


def test_metrics_have_the_guides_names_and_only_what_is_known():
    curriculum = Curriculum(TRAIN, seed=0)
    first = curriculum.metrics()
    assert first["curriculum/evaluation_count"] == 0
    assert "curriculum/latest_performance" not in first
    solve(curriculum, 1, rate=0.5)
    curriculum.observe_evaluation(1, 0.5, 40, HELDOUT_RATES)
    found = curriculum.metrics()
    assert found["curriculum/latest_performance"] == 0.75
    assert found["curriculum/evaluation_count"] == 1
    assert (found["curriculum/stage"], found["curriculum/threshold"]) == (0, 0.7)
    assert found["curriculum/zero_variance_share"] == 0
    assert 0 < found["curriculum/evidence_lower"] < found["curriculum/evidence"] < found["curriculum/evidence_upper"]
    shares = {name: value for name, value in found.items() if name.startswith("curriculum/share/")}
    assert sum(shares.values()) == pytest.approx(1)
    assert 0 < found["curriculum/entropy"] <= 1
    assert all(isinstance(value, float) for value in found.values())


def test_max_steps_ends_a_stage():
    stages = (Stage("foundation", ("foundation",), threshold=0.9, max_steps=30), Stage("rest", threshold=0.9))
    curriculum = Curriculum(TRAIN, CurriculumSettings(stages=stages), seed=0)
    moves = [move for step in range(1, 50) if (move := solve(curriculum, step, rate=0.0))]
    assert [(move.step, move.cause, move.next_stage) for move in moves] == [(30, "max_steps", "rest")]
    assert moves[0].missing


def test_a_threshold_for_all_stages():
    assert Curriculum(TRAIN, threshold=0.2).threshold == 0.2


def test_after_an_evaluation_without_levels_rollouts_decide():
    curriculum = Curriculum(TRAIN, seed=0)
    for step in range(3):
        decision = curriculum.observe_evaluation(step, 0.8, 40, {"unknown": (0.8, 40)})
    assert (decision.action, decision.evidence) == ("hold", None)
    assert not curriculum.take_alarms()
    assert next(move for step in range(3, 100) if (move := solve(curriculum, step))).next_stage == "elementary"


def test_an_evaluation_that_lacks_the_stage_or_the_rate_raises_an_alarm():
    curriculum = Curriculum(TRAIN, seed=0)
    curriculum.observe_evaluation(25, 0.5, 8, {"expert": (0.5, 8)})
    (alarm,) = curriculum.take_alarms()
    assert alarm.kind == "metric_missing"
    assert "has no problem of stage foundation" in alarm.cause
    curriculum.observe_evaluation(50, None, 0)
    assert not curriculum.take_alarms(), "told once as long as it lasts"
    curriculum.observe_evaluation(75, 0.5, 40, HELDOUT_RATES)
    curriculum.observe_evaluation(100, None, 0)
    (alarm,) = curriculum.take_alarms()
    assert "has no pass rate" in alarm.cause
    assert curriculum.metrics()["curriculum/evaluation_count"] == 4


def test_problems_of_an_evaluation_reach_stages_that_select_by_tags():
    stages = (Stage("lists", tags=("list",), threshold=0.5), Stage("rest", threshold=0.5))
    tagged = [replace(problem, tags=("list",)) if i % 2 else problem for i, problem in enumerate(TRAIN)]
    curriculum = Curriculum(tagged, CurriculumSettings(stages=stages), seed=0)
    decision = curriculum.observe_evaluation(1, 0.5, 2, by_problem=[(tagged[0], 0.0), (tagged[1], 1.0)])
    assert decision.evidence == 1.0


def test_problems_that_no_stage_selects_wait_for_the_mixed_one():
    stages = (Stage("easy", ("foundation", "elementary"), threshold=0.7),)
    curriculum = Curriculum(TRAIN, CurriculumSettings(stages=stages), seed=0)
    (alarm,) = curriculum.take_alarms()
    assert alarm.kind == "unstaged_problems"
    assert "60 of 100 training problems belong to no stage and are not drawn before the mixed stage." in alarm.cause
    assert {problem.level for problem in curriculum.draw(500)} == {"foundation", "elementary"}


def test_a_data_set_of_no_stage_at_all_starts_mixed_and_says_so():
    stages = (Stage("lists", tags=("list",), threshold=0.7),)
    curriculum = Curriculum(TRAIN, CurriculumSettings(stages=stages), seed=0)
    assert curriculum.stage.name == "mixed"
    (alarm,) = curriculum.take_alarms()
    assert alarm.cause == "None of the 100 training problems belongs to a stage: all are drawn."
    assert len({problem.id for problem in curriculum.draw(1000)}) == len(TRAIN)
    assert curriculum.observe_evaluation(25, 0.9, 8, {"unknown": (0.9, 8)}).action == "hold"
    with pytest.raises(ConfigError, match="no training problem belongs to any stage"):
        Curriculum(TRAIN, CurriculumSettings(stages=stages, final_mixed=False))


def test_empty_stages_are_skipped():
    some = [problem for problem in TRAIN if problem.level in ("elementary", "expert")]
    curriculum = Curriculum(some, seed=0)
    assert curriculum.stage.name == "elementary"
    (alarm,) = curriculum.take_alarms()
    assert "foundation, intermediate, advanced" in alarm.cause
    curriculum.observe_evaluation(0, 0.5, 40, HELDOUT_RATES)
    moved = next(move for step in range(1, 60) if (move := solve(curriculum, step)))
    assert moved.next_stage == "expert"


def test_redrawing_that_fails_ends_with_a_diagnosis():
    curriculum = Curriculum(TRAIN, seed=0)
    curriculum.observe_resampling(1, 3, 8, 2)
    assert curriculum.take_alarms() == []
    curriculum.observe_resampling(2, 7, 8, 2)
    (alarm,) = curriculum.take_alarms()
    assert alarm.kind == "resample_exhausted"
    assert "7 of 8 groups have no variance after 2 attempts" in alarm.cause
    curriculum.observe_resampling(3, 1, 8, 2)
    assert not curriculum.active_alarms


def test_results_nobody_drew_are_no_evidence_and_unknown_problems_are_refused():
    curriculum = Curriculum(TRAIN, seed=0)
    curriculum.observe_rollouts(1, [group_result(TRAIN[0], [1.0] * 8)] * 50)
    assert curriculum.observe_evaluation(1, None, 0).evidence is None
    with pytest.raises(ValueError, match="'other' is not a training problem"):
        curriculum.observe_rollouts(2, [GroupResult("other", [1.0], [Status.PASSED])])


def test_a_state_of_another_curriculum_is_refused():
    state = Curriculum(TRAIN).state_dict()
    for other in (
        Curriculum(TRAIN[:-1]),
        Curriculum(TRAIN, CurriculumSettings(final_mixed=False)),
        Curriculum(TRAIN, CurriculumSettings(sampler="staged")),
    ):
        with pytest.raises(CheckpointError, match="resume with the same configuration and data"):
            other.load_state_dict(state)


def test_two_ranks_draw_and_decide_alike():
    one, other = Curriculum(TRAIN, seed=3), Curriculum(TRAIN, seed=3)
    for step in range(1, 60):
        assert solve(one, step, rate=0.75) == solve(other, step, rate=0.75)
    assert one.state_dict() == other.state_dict()


def test_without_a_curriculum_each_problem_comes_once_an_epoch():
    source = UniformSource(TRAIN, seed=1)
    drawn = [problem.id for problem in source.draw(2 * len(TRAIN))]
    first, second = drawn[: len(TRAIN)], drawn[len(TRAIN) :]
    assert sorted(first) == sorted(second) == sorted(problem.id for problem in TRAIN)
    assert first != second
    source.draw(7)
    copy = UniformSource(TRAIN, seed=2)
    copy.load_state_dict(json.loads(json.dumps(source.state_dict())))
    assert copy.draw(300) == source.draw(300)
    assert [p.id for p in UniformSource(TRAIN, seed=2).draw(100)] != first
    assert source.observe_evaluation(25, 0.5, 40, HELDOUT_RATES) is None
    assert source.metrics() == {"curriculum/evaluation_count": 1.0, "curriculum/latest_performance": 0.5}


def test_states_with_and_without_a_curriculum_do_not_fit_each_other():
    with pytest.raises(CheckpointError):
        UniformSource(TRAIN).load_state_dict(Curriculum(TRAIN).state_dict())
    with pytest.raises(CheckpointError):
        Curriculum(TRAIN).load_state_dict(UniformSource(TRAIN).state_dict())


def test_neither_torch_nor_wandb_is_imported():
    program = "import sys, grpo_project.curriculum; print({'torch', 'wandb', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_resume_may_change_thresholds():
    settings = CurriculumSettings(on_stall="relax", patience=2)
    curriculum = Curriculum(TRAIN, settings, seed=0)
    for step in range(3):
        curriculum.observe_evaluation(step, 0.5, 40, dict.fromkeys(LEVELS, (0.2, 8)))
    assert curriculum.threshold == pytest.approx(0.65)
    resumed = Curriculum(TRAIN, settings, seed=0, threshold=0.5)
    resumed.load_state_dict(curriculum.state_dict())
    assert resumed.threshold == pytest.approx(0.45)


def test_a_state_of_another_version_is_refused_in_words():
    state = Curriculum(TRAIN, seed=0).state_dict()
    del state["version"]
    with pytest.raises(CheckpointError, match="version 1, this program's of 3; finish the run with the version"):
        Curriculum(TRAIN, seed=0).load_state_dict(state)


def test_built_in_problems_are_no_evidence_on_the_users_own_stages():
    mine = [replace(p, source="mine.jsonl") for p in TRAIN]
    toys = [(problem, 1.0) for problem in builtin_problems("heldout", count=40)]
    curriculum = Curriculum(mine, CurriculumSettings(on_stall="advance"), seed=0)
    for step in range(0, 2000, 25):
        decision = curriculum.observe_evaluation(step, 1.0, 40, dict.fromkeys(LEVELS, (1.0, 8)), toys)
        if step < 125:  # later it stalls, since nothing is known of the stage
            assert (decision.action, decision.evidence) == ("hold", None)
    assert all(alarm.kind in ("metric_missing", "plateau") for alarm in curriculum.take_alarms())
    assert curriculum.metrics()["curriculum/latest_performance"] == 1.0


def test_without_held_out_problems_of_their_own_rollouts_decide():
    mine = [replace(p, source="mine.jsonl") for p in TRAIN]
    toys = [(problem, 0.0) for problem in builtin_problems("heldout", count=40)]
    curriculum = Curriculum(mine, seed=0)
    curriculum.observe_evaluation(0, 0.0, 40, {}, toys)
    moved = next(move for step in range(1, 100) if (move := solve(curriculum, step)))
    assert (moved.next_stage, moved.cause) == ("elementary", "gate")


def test_built_in_problems_are_evidence_where_they_are_trained_on():
    curriculum = Curriculum(builtin_problems("train", count=40), seed=0)
    toys = [(problem, 1.0) for problem in builtin_problems("heldout", count=40)]
    assert curriculum.observe_evaluation(0, 1.0, 40, {}, toys).evidence == 1.0
