"""Hostile programs against the real sandbox, at both levels: no reward, contained, and the next one is judged right."""

import pytest
from hostile import DISRUPTIVE, SOLVES_NOTHING, STACKS_THAT_HOLD_NOTHING

from grpo_project.problems.problem import AssertTest, CallTest, CheckTest, Problem, StdioTest
from grpo_project.verifier import Job, Verifier

LEVELS = ("namespaces", "landlock")

CALLS = (
    CallTest((5, 0, 3), 3),
    CallTest((1, 0, 3), 1),
    CallTest((-2, 0, 3), 0),
)
ASSERTS = (
    AssertTest("assert clip(5, 0, 3) == 3"),
    AssertTest("assert abs(clip(0.5, 0, 1) - 0.5) < 1e-9"),
    AssertTest("assert clip(-2, 0, 3) in (0,)"),
    AssertTest("assert not clip(-2, 0, 3) != 0"),
)
CHECK = (CheckTest("def check(candidate):\n    assert candidate(5, 0, 3) == 3\n    assert candidate(1, 0, 3) == 1\n"),)
STDIO = (StdioTest("5 0 3\n", "3\n7\n"), StdioTest("1 0 3\n", "1\n7\n"))

RIGHT = "def clip(x, lo, hi):\n    return max(lo, min(x, hi))\n"
RIGHT_PROGRAM = "x, lo, hi = map(int, input().split())\nprint(max(lo, min(x, hi)))\nprint(7)\n"


def problem(tests, **options):
    options = {"time_limit_s": 0.4, "memory_limit_mb": 256} | options
    return Problem("clip", "Clip x to lo..hi.", tests, entry_point=None if tests is STDIO else "clip", **options)


KINDS = {"calls": CALLS, "asserts": ASSERTS, "check": CHECK}


@pytest.fixture(scope="module", params=LEVELS)
def verifier(request):
    with Verifier(workers=2, isolation=request.param, cache=False) as verifier:
        yield verifier


def judged_right_next(verifier):
    verdicts = verifier.verify_many([Job(problem(CALLS), RIGHT), Job(problem(CHECK), RIGHT + "\n\n")])
    return all(verdict.solved for verdict in verdicts)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_that_solve_nothing_pass_no_test(verifier, kind):
    jobs = [Job(problem(KINDS[kind]), fenced(code)) for code in SOLVES_NOTHING.values()]
    verdicts = verifier.verify_many(jobs)
    passed = {name: verdict.tests for name, verdict in zip(SOLVES_NOTHING, verdicts, strict=True) if verdict.passed}
    assert passed == {}
    assert judged_right_next(verifier)


STACK = """\
class Stack:
    def __init__(self): self.items = []
    def push(self, item): self.items.append(item)
    def pop(self): return self.items.pop()
"""
OVER_OBJECTS = tuple(
    AssertTest(f"import unittest\ns = Stack()\ns.push(2)\ns.push(3)\n{claim}")
    for claim in (
        "assert s.pop() == 3",
        "ok = s.pop() == 3\nassert ok",
        "assert abs(s.pop() - 3) < 1e-6",
        "assert s.pop() in (3,) and s.pop() > 1",
        "assert [s.pop() == n for n in (3, 2)] == [True, True]",
        "assert 2 in s.items and len(s.items) == 2",
        "assert sorted(s.items) == [2, 3]",
        "if s.pop() != 3:\n    raise ValueError",
        "unittest.TestCase().assertEqual(s.pop(), 3)",
        "unittest.TestCase().assertAlmostEqual(s.pop(), 3)",
        "try:\n    s.pop(), s.pop(), s.pop()\nexcept IndexError as error:\n    assert 'pop' in str(error)\n"
        "else:\n    raise AssertionError",
    )
)


@pytest.mark.parametrize("name", STACKS_THAT_HOLD_NOTHING)
def test_objects_that_hold_nothing_pass_no_test(verifier, name):
    asked = Problem("s", "", OVER_OBJECTS, entry_point="Stack", solution=STACK, time_limit_s=0.4, memory_limit_mb=256)
    jobs = [Job(asked, fenced(code)) for code in (STACKS_THAT_HOLD_NOTHING[name], STACK)]
    nothing, right = verifier.verify_many(jobs)
    assert [test.input for test in nothing.tests if test.passed] == []
    assert (right.solved, right.weak) == (True, False), right.message


@pytest.mark.parametrize("name", DISRUPTIVE)
def test_disruptive_programs_are_contained(verifier, name):
    verdicts = verifier.verify_many([Job(problem(CALLS), fenced(DISRUPTIVE[name])), Job(problem(CALLS), RIGHT)])
    assert [verdict.passed for verdict in verdicts] == [0, 3]
    assert judged_right_next(verifier)


LINGERING = {
    "a descendant": "import os, time\ntry:\n    if os.fork() == 0:\n        time.sleep(300)\nexcept OSError: pass\n",
    "a thread": "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\n",
    "an exit handler": "import atexit, time\natexit.register(time.sleep, 300)\n",
}


@pytest.mark.parametrize("name", LINGERING)
def test_right_programs_that_would_stay_are_right_and_ended(verifier, name):
    verdict = verifier.verify(Job(problem(CALLS, time_limit_s=5.0), fenced(LINGERING[name] + RIGHT)))
    assert verdict.solved, verdict.tests
    assert judged_right_next(verifier)


PROGRAMS_THAT_PASS_NOTHING = {
    "first line only": "print(3)\n",
    "right output, then an error": "print('3\\n7')\nraise SystemExit(1)\n",
    "right output, then a signal": "import os\nprint('3\\n7', flush=True)\nos.abort()\n",
    "right output, then a loop": "print('3\\n7', flush=True)\nwhile True: pass\n",
    "right output on standard error": "import sys\nprint('3\\n7', file=sys.stderr)\n",
    "right output amid noise": "print('3\\n7')\nprint('3\\n7')\n",
    "endless output": "while True: print('3\\n7')\n",
    "passed": "print('passed')\n",
    "output into the link": "import os\nos.write(3, b'\\x00\\x00\\x00\\x03[1]')\n",
    "output by a child": "import os, time\nif os.fork() == 0:\n    time.sleep(0.3)\n    print('3\\n7', flush=True)\n",
    "exit handler that loops": "import atexit\ndef loop():\n    while True: pass\natexit.register(loop)\n",
    "closed output": "import os\nos.close(1)\n",
    "spaced out": "print('3 7')\n",
    "nan": "print('nan')\nprint('nan')\n",
}


@pytest.mark.parametrize("name", PROGRAMS_THAT_PASS_NOTHING)
def test_programs_are_paid_for_their_whole_output_only(verifier, name):
    jobs = [Job(problem(STDIO), fenced(code)) for code in (PROGRAMS_THAT_PASS_NOTHING[name], RIGHT_PROGRAM)]
    verdicts = verifier.verify_many(jobs)
    assert [verdict.passed for verdict in verdicts] == [0, 2]


def fenced(code):
    return f"```python\n{code}\n```"


OWNERS_WAYS = """\
import os

def clip(*a):
    done = []
    for way in (
        lambda: os.chmod(FILE, 0),
        lambda: os.chmod(FOLDER, 0),
        lambda: os.chown(FILE, 1, 1),
        lambda: os.utime(FILE, (1, 1)),
        lambda: os.truncate(FILE, 0),
        lambda: os.open(FILE, os.O_WRONLY | os.O_TRUNC),
        lambda: os.rename(FILE, FILE + "2"),
        lambda: os.link(FILE, FILE + "3"),
        lambda: os.symlink(FILE, FILE + "4"),
        lambda: os.setxattr(FILE, "user.x", b"1"),
        lambda: os.unlink(FILE),
        lambda: os.rmdir(FOLDER),
    ):
        try:
            way()
            done.append("?")
        except OSError:
            done.append("refused")
    return done
"""


def test_files_of_the_same_user_keep_mode_times_and_content(verifier, tmp_path):
    """The candidate may run under the uid that owns the trainer's files; an owner needs no permission for much."""
    victim = tmp_path / "folder" / "file"
    victim.parent.mkdir()
    victim.write_text("content")
    before = [(path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_uid) for path in (victim, victim.parent)]
    code = OWNERS_WAYS.replace("FILE", repr(str(victim))).replace("FOLDER", repr(str(victim.parent)))
    asked = problem((CallTest((1,), ["refused"] * 12),))
    verdict = verifier.verify(Job(asked, code))
    after = [(path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_uid) for path in (victim, victim.parent)]
    assert after == before
    assert victim.read_text() == "content"
    assert [path.name for path in victim.parent.iterdir()] == ["file"]
    assert verdict.passed == 1, verdict.tests
