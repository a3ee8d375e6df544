"""Problems without a level: tried, sorted by what came of it, and then part of the stages like any other."""

from collections import Counter
from dataclasses import replace

import pytest
from learners import HELDOUT_RATES, TESTS, History, Learner, group_result, problems_of, restored, simulate

from grpo_project.curriculum import Curriculum, CurriculumSettings, Decision, Stage
from grpo_project.curriculum.pools import SEARCH, Pools
from grpo_project.curriculum.stages import DEFAULT_STAGES, MIXED
from grpo_project.problems.problem import LEVELS, Problem

STAGES = (*DEFAULT_STAGES, MIXED)
LABELLED = problems_of(20)
HELDOUT = problems_of(8, "heldout")


def without_level(problems):
    return [replace(problem, level="unknown") for problem in problems]


class Blind(Learner):
    """Its problems don't carry their level, as far as the curriculum knows; their id does."""

    def chance(self, problem):
        return super().chance(self.true(problem))

    def train(self, groups):
        super().train([(self.true(problem), rewards) for problem, rewards in groups])

    def true(self, problem):
        return replace(problem, level=problem.id.split("-")[1])


UNKNOWN = without_level(LABELLED)
UNKNOWN_HELDOUT = without_level(HELDOUT)


def run(curriculum, learner, steps, **how):
    """``simulate`` with evaluations of problems without a level, which the learner solves as far as it has got."""
    history = how.pop("history", None) or History()
    for step in range(how.pop("first", 1), steps + 1):
        simulate(curriculum, learner, HELDOUT, first=step, steps=step, every=0, history=history, **how)
        if step % 25 == 0:
            rates = [learner.attempt(problem, 1)[0] for problem in UNKNOWN_HELDOUT]
            mean = sum(rates) / len(rates)
            history.decisions.append(curriculum.observe_evaluation(step, mean, 40, {"unknown": (mean, 40)}))
            history.alarms += curriculum.take_alarms()
    return history


def judged(curriculum, step, solved, n=8):
    """One step in which ``solved(problem)`` of eight completions pass."""
    groups = [group_result(p, [1.0] * solved(p) + [0.0] * (8 - solved(p))) for p in curriculum.draw(n)]
    return curriculum.observe_rollouts(step, groups)


@pytest.mark.parametrize("sampler", ["learnable", "staged", "uniform"])
def test_a_set_without_any_level_walks_through_the_stages(sampler):
    problems = without_level(problems_of(60))
    curriculum = Curriculum(problems, CurriculumSettings(sampler=sampler), seed=1)
    assert curriculum.stage.name == "foundation"
    assert not curriculum.take_alarms()
    learner = Blind(1, start=(2.5, 1.0, 0.0, -1.0, -2.5), rate=0.03)
    history = run(curriculum, learner, 400)
    assert [move.next_stage for move in history.moves] == [*LEVELS[1:], "mixed"]
    assert all(move.cause == "gate" for move in history.moves)
    assert {alarm.kind for alarm in history.alarms} <= {"plateau"}
    assert curriculum.metrics()["curriculum/unsorted_problems"] < 0.1 * len(problems)


def test_half_of_the_problems_without_a_level_join_the_others():
    problems = [replace(p, level="unknown") if i % 2 else p for i, p in enumerate(problems_of(60))]
    curriculum = Curriculum(problems, CurriculumSettings(sampler="staged"), seed=0)
    assert not curriculum.take_alarms()
    waiting = {problem.id for problem in problems if problem.level == "unknown"}
    history = run(curriculum, Blind(0, rate=0.06), 20)
    tried = [problem_id for problem_id in history.drawn if problem_id in waiting]
    first_steps = sum(problem_id in waiting for problem_id in history.drawn[:80]) / 80
    assert 0.15 < first_steps < 0.45, "a quarter goes to sorting, and some to those that were sorted"
    assert curriculum.metrics()["curriculum/unsorted_problems"] == len(waiting) - len(set(tried))
    later = run(curriculum, Blind(0, rate=0.06), 300, first=21)
    assert later.moves[-1].next_stage == "mixed"


def test_a_problem_joins_the_stages_that_select_it_exactly_once():
    overlapping = (*STAGES, Stage("easy lists", ("foundation",), tags=("list",), complexity=(0, 1), threshold=0.5))
    problems = [Problem("p", "", TESTS, tags=("list",)), Problem("q", "", TESTS), Problem("r", "", TESTS)]
    pools = Pools(problems, overlapping)
    assert pools.sizes == [0, 0, 0, 0, 0, 3, 0]
    for _ in range(2):
        pools.sort(0, solved=8, samples=8)
        pools.sort(1, solved=7, samples=8)
        pools.sort(2, solved=0, samples=8)
    assert pools.of_stage == [[0, 1], [], [], [], [2], [0, 1, 2], [0]]
    assert pools.sizes == [len(pool) for pool in pools.of_stage]
    assert (pools.problem(0).level, pools.problem(0).complexity) == ("foundation", 0.56)
    assert (pools.problem(2).level, pools.problem(2).complexity) == ("expert", 9.44)
    assert (pools.unsorted, pools.outside) == (0, 0)


def test_each_is_tried_once_before_any_is_tried_again():
    curriculum = Curriculum(UNKNOWN, seed=3)
    drawn = [problem.id for _ in range(12) for problem in curriculum.draw(8)]
    assert len(set(drawn)) == 96
    assert drawn != sorted(drawn)
    other = Curriculum(UNKNOWN, seed=4)
    assert [problem.id for problem in other.draw(96)] != drawn


def test_what_was_handed_out_and_never_judged_is_handed_out_again():
    curriculum = Curriculum(UNKNOWN[:10], seed=0)
    curriculum.draw(10)
    assert {problem.id for problem in curriculum.draw(10)} == {problem.id for problem in UNKNOWN[:10]}
    for step in range(1, 4):
        judged(curriculum, step, lambda problem: 8)
    assert curriculum.metrics()["curriculum/unsorted_problems"] == 0


def test_a_batch_larger_than_the_set_is_filled():
    curriculum = Curriculum(UNKNOWN[:3], seed=0)
    counts = Counter(problem.id for problem in curriculum.draw(8))
    assert sum(counts.values()) == 8 and len(counts) == 3
    curriculum = Curriculum(UNKNOWN[:3], CurriculumSettings(final_mixed=False), seed=0)
    assert len(curriculum.draw(8)) == 8


def test_a_stage_is_skipped_once_all_are_sorted_and_none_is_its_own():
    """All problems are hopeless: nothing is found for the first four stages."""
    curriculum = Curriculum(UNKNOWN, seed=0)
    moves = [move for step in range(1, 20) if (move := judged(curriculum, step, lambda problem: 0))]
    assert [(move.stage, move.next_stage, move.cause) for move in moves] == [("foundation", "expert", "empty")]
    assert moves[0].unsorted == 0
    assert moves[0].reason == "no problem was found for stage foundation among those without a level"
    alarm = next(alarm for alarm in curriculum.take_alarms() if alarm.kind == "empty_stage")
    assert alarm.cause == (
        "No training problem belongs to stage foundation, elementary, intermediate, advanced: skipped."
    )


def test_the_search_for_a_stages_problems_ends():
    """In a large set, long before all problems have been tried."""
    problems = without_level(problems_of(200))
    curriculum = Curriculum(problems, seed=0)
    step = 0
    while curriculum.stage.name == "foundation":
        step += 1
        judged(curriculum, step, lambda problem: 0)
    assert step == -(-SEARCH // 8)
    assert curriculum.stage.name == "expert"
    alarm = next(alarm for alarm in curriculum.take_alarms() if alarm.kind == "empty_stage")
    assert f"so far ({len(problems) - 8 * step} are not sorted yet)" in alarm.cause
    judged(curriculum, step + 1, lambda problem: 8)
    assert any(problem.level == "foundation" for problem in curriculum.draw(200)), "a stage may fill up later"


def test_a_set_that_fits_no_stage_is_drawn_as_a_whole_and_said_to():
    stages = (Stage("half solved", complexity=(4, 6), threshold=0.7),)
    curriculum = Curriculum(UNKNOWN, CurriculumSettings(stages=stages, final_mixed=False), seed=0)
    for step in range(1, 20):
        judged(curriculum, step, lambda problem: 0)
    assert len({problem.id for problem in curriculum.draw(1000)}) == len(UNKNOWN)
    told = [alarm.cause for alarm in curriculum.take_alarms() if alarm.kind == "unstaged_problems"]
    assert told == ["None of the 100 training problems belongs to a stage: all are drawn."]


def test_sorted_problems_of_no_stage_are_told_when_all_are_sorted():
    stages = (Stage("solved", complexity=(0, 2), threshold=0.7),)
    curriculum = Curriculum(UNKNOWN, CurriculumSettings(stages=stages), seed=0)
    step = 0
    while curriculum.metrics()["curriculum/unsorted_problems"]:
        assert "unstaged_problems" not in curriculum.active_alarms
        step += 1
        judged(curriculum, step, lambda problem: 8 if problem.id.startswith("train-foundation") else 0)
    told = [alarm.cause for alarm in curriculum.take_alarms() if alarm.kind == "unstaged_problems"]
    assert told == ["80 of 100 training problems belong to no stage and are not drawn before the mixed stage."]


def test_problems_that_cannot_be_sorted_do_not_wait():
    stages = (Stage("easy lists", ("foundation",), tags=("list",), threshold=0.7), Stage("rest", ("expert", "unknown")))
    tagged = [replace(problem, tags=("list",)) for problem in UNKNOWN[:10]]
    settings = CurriculumSettings(stages=stages, final_mixed=False)
    assert "curriculum/unsorted_problems" not in Curriculum([*tagged, *UNKNOWN], settings).metrics()
    first_only = CurriculumSettings(stages=stages[:1])
    curriculum = Curriculum([*tagged, *UNKNOWN[10:]], first_only)
    assert curriculum.metrics()["curriculum/unsorted_problems"] == 10
    (alarm,) = curriculum.take_alarms()
    assert alarm.cause.startswith("90 of 100 training problems belong to no stage")


def test_how_many_are_unsorted_is_told():
    curriculum = Curriculum(UNKNOWN, seed=0)
    assert curriculum.explain().endswith(" 100 problems without a level are not sorted yet.")
    judged(curriculum, 1, lambda problem: 8)
    decision = curriculum.observe_evaluation(1, 0.5, 40, HELDOUT_RATES)
    assert decision.unsorted == 92
    assert decision.explain().endswith(" 92 problems without a level are not sorted yet.")
    old_event = {name: value for name, value in decision.to_event().items() if name != "unsorted"}
    assert Decision.from_event(old_event).unsorted == 0
    assert "unsorted" not in Curriculum(LABELLED).explain()


@pytest.mark.parametrize("sampler", ["learnable", "staged", "uniform"])
def test_a_resume_amid_sorting_changes_nothing(sampler):
    problems = [replace(p, level="unknown") if i % 3 else p for i, p in enumerate(problems_of(12))]
    settings = CurriculumSettings(sampler=sampler)

    def walk(break_at):
        curriculum, learner = Curriculum(problems, settings, seed=5), Blind(5, rate=0.06)
        history = run(curriculum, learner, break_at)
        used = Curriculum(problems, settings, seed=99)
        judged(used, 1, lambda problem: 4)  # what it had sorted before is gone
        resumed = restored(curriculum, used)
        assert resumed.state_dict() == curriculum.state_dict()
        run(resumed, learner, 40, first=break_at + 1, history=history)
        return history, resumed.state_dict(), resumed.metrics(), resumed.explain()

    whole = walk(40)
    assert whole[2]["curriculum/unsorted_problems"] < 40
    for break_at in (1, 2, 7, 15, 25, 26):
        assert walk(break_at) == whole


def test_a_resume_between_the_draw_of_unsorted_problems_and_their_results():
    curriculum, learner = Curriculum(UNKNOWN, seed=4), Blind(4)
    run(curriculum, learner, 5)
    problems = curriculum.draw(8)
    copy = restored(curriculum, Curriculum(UNKNOWN, seed=0))
    results = [group_result(problem, learner.attempt(problem)) for problem in problems]
    assert curriculum.observe_rollouts(6, results) == copy.observe_rollouts(6, results)
    assert curriculum.state_dict() == copy.state_dict()
    assert [p.id for p in curriculum.draw(50)] == [p.id for p in copy.draw(50)]


def test_what_version_0_1_0_had_sorted_is_read():
    """It wrote one list a problem."""
    curriculum = Curriculum(UNKNOWN, seed=0)
    run(curriculum, Blind(0, rate=0.06), 10)
    state = curriculum.state_dict()
    flat = state["pools"]["sorted"]
    older = state | {"pools": state["pools"] | {"sorted": [flat[i : i + 3] for i in range(0, len(flat), 3)]}}
    assert flat
    copy = Curriculum(UNKNOWN, seed=1)
    copy.load_state_dict(older)
    assert copy.state_dict() == state
