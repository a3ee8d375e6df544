import csv
import json

import pytest

from grpo_project.cli import main
from grpo_project.record.evaluations import CompletionRecord, EvaluationStore
from grpo_project.record.samples import SampleStore
from grpo_project.verifier.verdict import Status, TestResult, Verdict


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def row(problem_id, status="failed", level="foundation", code="def f(x):\n    return x"):
    test = {"status": "failed", "message": "", "input": "f(41)", "expected": "42", "got": "41", "cpu_s": 0.0}
    return {
        "problem_id": problem_id,
        "level": level,
        "prompt": "Write f.",
        "completion": code or "I can't.",
        "code": code,
        "status": status,
        "passed": 1 if status == "passed" else 0,
        "total": 1,
        "tests": [] if status == "passed" else [test],
        "reward": 1.0 if status == "passed" else 0.0,
        "advantage": 0.25,
    }


@pytest.fixture
def run_dir(tmp_path):
    with SampleStore(tmp_path, 0) as store:
        store.append(1, [row("early")])
        store.append(2, [row("right", "passed"), row("wrong"), row("hard", level="expert")])
    return tmp_path


def show(capsys, *arguments):
    assert main(["samples", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_the_newest_step_comes_first_with_the_failing_test(run_dir, capsys):
    printed = show(capsys, run_dir, "--limit", 4)
    assert printed.index("step 2 · right") < printed.index("step 1 · early")
    assert "def f(x):" in printed
    for text in ("f(41)", "42", "41", "reward 0.000", "advantage +0.250", "4 of 4 that fit"):
        assert text in printed


@pytest.mark.parametrize(
    ("flags", "shown", "hidden"),
    [
        (["--step", "1"], ["early"], ["right", "wrong", "hard"]),
        (["--level", "expert"], ["hard"], ["early", "right", "wrong"]),
        (["--status", "passed"], ["right"], ["early", "wrong", "hard"]),
        (["--problem", "wrong", "--prompt"], ["wrong", "Write f."], ["right", "hard"]),
    ],
)
def test_filters(run_dir, capsys, flags, shown, hidden):
    printed = show(capsys, run_dir, *flags)
    assert all(text in printed for text in shown)
    assert not any(f"· {text} ·" in printed for text in hidden)


def test_a_filter_without_a_match_says_what_there_is(run_dir, capsys):
    assert main(["samples", str(run_dir), "--step", "9"]) == 2
    assert "there are steps 1, 2; levels expert, foundation; outcomes failed, passed" in capsys.readouterr().err


def test_a_folder_without_samples_is_refused(tmp_path, capsys):
    assert main(["samples", str(tmp_path)]) == 2
    assert "give the output folder of a run" in capsys.readouterr().err


def test_what_a_model_wrote_never_reaches_the_terminal_as_a_control_sequence(tmp_path, capsys):
    hostile = "print('\x1b]0;owned\x07\x1b[2J[red]text[/red]\u202e')"
    with SampleStore(tmp_path, 0) as store:
        store.append(1, [row("hostile\x1b[2J", code=hostile)])
    printed = show(capsys, tmp_path)
    assert "\x1b]0;" not in printed and "\x1b[2J" not in printed and "\x07" not in printed and "\u202e" not in printed
    assert "\\x1b]0;owned\\x07" in printed and "[red]text[/red]" in printed


def test_superseded_samples_are_shown_on_request_only(run_dir, capsys):
    with SampleStore(run_dir, 1) as store:
        store.append(2, [row("again")])
    assert "right" not in show(capsys, run_dir)
    assert "right" in show(capsys, run_dir, "--all_attempts")


def record(problem_id, passed, code):
    tests = (TestResult(Status.PASSED if passed else Status.FAILED, input="f(1)", expected="2", got="1"),)
    status = Status.PASSED if passed else Status.FAILED
    verdict = Verdict("job", problem_id, status, int(passed), 1, tests, code=code)
    return CompletionRecord(problem_id, "foundation", "builtin", 0, "Write f.", code, 9, False, verdict)


def test_two_evaluations_are_compared_problem_by_problem(tmp_path, capsys):
    store = EvaluationStore(tmp_path, 0)
    better = "def f(x):\n    return x + 1"
    store.write(
        0,
        [
            record("learned", False, "def f(x):\n    return x"),
            record("lost", True, better),
            record("same", True, better),
        ],
    )
    store.write(
        25,
        [
            record("learned", True, better),
            record("lost", False, "def f(x):\n    return 0"),
            record("same", True, better),
        ],
    )
    printed = show(capsys, tmp_path, "--diff", 0, 25)
    assert "1 better, 1 worse, of 3 completions" in printed
    assert "learned: failed 0/1 -> passed 1/1" in printed
    assert "+    return x + 1" in printed
    assert "same" not in printed
    assert main(["samples", str(tmp_path), "--diff", "0", "30"]) == 2
    assert "no evaluation of step 30 fits; there are steps 0, 25" in capsys.readouterr().err


def test_of_many_changes_the_greatest_losses_and_gains_are_shown(tmp_path, capsys):
    store = EvaluationStore(tmp_path, 0)
    names = [f"problem-{i:02d}" for i in range(40)]
    store.write(0, [record(name, i < 15, "def f(x): return 1") for i, name in enumerate(names)])
    store.write(25, [record(name, i >= 15, "def f(x): return 2") for i, name in enumerate(names)])
    printed = show(capsys, tmp_path, "--diff", 0, 25, "--limit", 2)
    assert "25 better, 15 worse, of 40 completions; 20 changes are not shown" in printed
    assert sum(f"│ {name} " in printed for name in names[:15]) == 10
    assert sum(f"│ {name} " in printed for name in names[15:]) == 10
    assert "problem-00: passed 1/1 -> failed 0/1" in printed
    assert "problem-39: failed 0/1 -> passed 1/1" in printed
    assert printed.count("->") == 2


def test_evaluations_can_be_looked_at_as_well(tmp_path, capsys):
    EvaluationStore(tmp_path, 0).write(25, [record("p", False, "def f(x): return x")])
    assert "step 25 · p · foundation · failed 0/1" in show(capsys, tmp_path, "--evaluations")
    assert main(["samples", str(tmp_path)]) == 2
    assert "--evaluations" in capsys.readouterr().err


def scored(problem_id, reward, advantage, passed, code):
    status = "passed" if passed else "failed"
    return {**row(problem_id, status, code=code), "reward": reward, "advantage": advantage}


@pytest.fixture
def group_dir(tmp_path):
    with SampleStore(tmp_path, 0) as store:
        good, bad = "def f(x):\n    return x + 1", "def f(x):\n    return x"
        store.append(1, [scored("a", 1.0, 0.5, True, good), scored("a", 0.0, -1.5, False, bad)])
        store.append(2, [scored("b", 0.5, 0.1, False, "=cmd|'/c calc'!A1"), scored("b", 0.7, -0.1, False, "needle")])
    return tmp_path


def test_the_worst_come_first_when_sorted(group_dir, capsys):
    by_reward = show(capsys, group_dir, "--sort", "reward", "--limit", 3)
    shown = [line.rsplit("reward ", 1)[1][:5] for line in by_reward.splitlines() if "reward " in line]
    assert shown == ["0.000", "0.500", "0.700"]
    assert "advantage -1.500" in show(capsys, group_dir, "--sort", "advantage", "--limit", 1)
    assert main(["samples", str(group_dir), "--evaluations", "--sort", "reward"]) == 2


def test_a_text_is_searched_in_prompts_and_completions(group_dir, capsys):
    printed = show(capsys, group_dir, "--search", "needle")
    assert "needle" in printed and "1 of 1 that fit" in printed
    assert "4 of 4 that fit" in show(capsys, group_dir, "--search", "Write f")
    assert main(["samples", str(group_dir), "--search", "nowhere"]) == 2


def test_a_group_is_shown_whole_with_each_program_once(group_dir, capsys):
    printed = show(capsys, group_dir, "--group", "--status", "passed")
    assert "step 1 · a · foundation · 1 of 2 solved" in printed
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.strip()}
    assert lines["reward"] == ["1.000", "0.000"] and lines["advantage"] == ["+0.500", "-1.500"]
    assert printed.index("#1  passed 1/1") < printed.index("#2  failed 0/1")
    assert "· b ·" not in printed
    assert main(["samples", str(group_dir), "--group", "--export", "csv"]) == 2


def test_export_as_a_table_is_safe_to_open_and_as_lines_is_whole(group_dir, tmp_path, capsys):
    lines = [json.loads(line) for line in show(capsys, group_dir, "--export", "jsonl").splitlines()]
    assert [(line["step"], line["reward"]) for line in lines] == [(2, 0.5), (2, 0.7), (1, 1.0), (1, 0.0)]
    assert lines[0]["tests"][0]["expected"] == "42"
    target = tmp_path / "out.csv"
    assert show(capsys, group_dir, "--export", "csv", "--output", target).strip() == str(target)
    with target.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["code"] == "'=cmd|'/c calc'!A1", "a spreadsheet would run it"
    assert rows[2]["code"] == "def f(x):\n    return x + 1"
    assert main(["samples", str(group_dir), "--output", "x"]) == 2


def test_export_as_a_page_holds_the_groups(group_dir, capsys):
    target = group_dir / "samples.html"
    assert show(capsys, group_dir, "--export", "html", "--status", "failed").strip() == str(target)
    data = target.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0]
    groups = json.loads(data)["samples"]["groups"]
    assert [(group["step"], len(group["completions"])) for group in groups] == [(2, 2), (1, 1)]
