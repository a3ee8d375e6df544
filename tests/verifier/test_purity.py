"""Which programs count as unable to remember, and that the others are run in a second order."""

import pytest

from grpo_project.problems.problem import AssertTest, CallTest, CheckTest, Problem
from grpo_project.verifier import Job, Verifier
from grpo_project.verifier.cage.purity import is_pure

PURE = {
    "arithmetic": "def f(x):\n    return x + 1",
    "imports": "import math\nfrom typing import List\ndef f(x: List[int]) -> int:\n    return math.gcd(*x)",
    "helper functions": "MOD = 10**9 + 7\ndef g(x): return x % MOD\ndef f(x): return sorted(map(g, x))[0]",
    "nested function": "def f(x):\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    g()\n    return n",
}
REMEMBERING = {
    "global": "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n",
    "default": "def f(x, n=[]):\n    n.append(1)\n    return len(n)",
    "keyword default": "def f(x, *, n=[]):\n    n.append(1)\n    return len(n)",
    "lambda default": "def f(x, g=(lambda: [])()):\n    g.append(1)\n    return len(g)",
    "attribute": "def f(x):\n    f.n = 1",
    "dictionary of a function": "def f(x):\n    f.__dict__['n'] = 1",
    "list": "L = []\ndef f(x):\n    L.append(1)\n    return len(L)",
    "list in a tuple": "t = ([],)\ndef f(a):\n    t[0].append(1)",
    "annotated list": "x: list = []\ndef f(a):\n    x.append(1)",
    "counter": "import itertools\nc = itertools.count()\ndef f(x): return next(c)",
    "cache": "import functools\n@functools.lru_cache\ndef f(x): return 1",
    "class": "class A: n = 0\ndef f(x):\n    A.n += 1\n    return A.n",
    "attribute of a module": "import collections\nd = collections\ndef f(x):\n    d.x = 1",
    "named tuple's class": "import collections\nP = collections.namedtuple('P', 'x')\ndef f(a):\n    P.n = 1",
    "generator kept": "def g():\n    yield from range(9)\nG = g()\ndef f(x): return next(G)",
    "closure": "def m():\n    L = []\n    def f(x):\n        L.append(x)\n        return L\n    return f\nf = m()",
    "random": "import random\ndef f(x): return random.random()",
    "time": "import time\ndef f(x): return time.time()",
    "process id": "import os\ndef f(x): return os.getpid()",
    "file": "def f(x): return len(open('/tmp/x', 'a').write('1'))",
    "input": "def f(x): return input()",
    "frame, by a name of its own": "def g():\n    yield 1\ndef gi_frame(): pass\ndef f(x): return g().gi_frame",
    "format field": "import string\ndef f(x): return string.Formatter().get_field('0.__dict__', (f,), {})",
    "wrapper": "from functools import update_wrapper\ndef f(x): return update_wrapper(f, len)",
    "import under a safe name": "import os as deque\ndef f(x): return deque.getpid()",
    "function under a safe name": "from os import getpid as sum\ndef f(x): return sum()",
    "star import": "from os import *\ndef f(x): return getpid()",
    "module in a module": "import typing\ndef f(x): return typing.sys.modules",
    "globals": "def f(x):\n    globals()['n'] = 1",
    "eval": "def f(x): return eval('f.__dict__')",
}


@pytest.mark.parametrize("name", PURE)
def test_pure_programs_are_known(name):
    assert is_pure(compile(PURE[name], "x", "exec"))


@pytest.mark.parametrize("name", REMEMBERING)
def test_programs_that_could_remember_are_not_trusted_to_be_pure(name):
    assert not is_pure(compile(REMEMBERING[name], "x", "exec"))


COUNTER = "n = 0\ndef f(*args, **kwargs):\n    global n\n    n += 1\n    return n\n"
CONTRADICTIONS = {
    "calls": (CallTest((1,), 1), CallTest((1,), 2)),
    "calls by keyword": (CallTest((1,), 1), CallTest((), 2, {"x": 1})),
    "calls by type": (CallTest((1,), 1), CallTest((1.0,), 2), CallTest((True,), 3)),
    "asserts": (AssertTest("assert f(1) == 1"), AssertTest("assert f(1) == 2")),
    "one assert": (AssertTest("assert f(1) == 1 and f(1) == 2"),),
    "one check": (CheckTest("def check(c):\n    assert c(1) == 1\n    assert c(1) == 2"),),
    "one check by keyword": (CheckTest("def check(c):\n    assert c(1) == 1\n    assert c(x=1) == 2"),),
    "a check that loops": (CheckTest("def check(c):\n    for n in (1, 2, 3):\n        assert c(1) == n"),),
}


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=1, cache=False) as verifier:
        yield verifier


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictory_tests_are_never_all_passed(verifier, name):
    problem = Problem("p", "", CONTRADICTIONS[name], entry_point="f")
    clock = "import time\nt = time.time_ns\nn = iter(range(1, 9))\ndef f(*a, **k): return next(n)\n"
    for program in (COUNTER, clock, COUNTER.replace("global n", "global n; import os; os.getpid()")):
        assert not verifier.verify(Job(problem, program)).solved


BOX = """
class Box:
    made = 0
    def __init__(self):
        Box.made += 1
    def size(self):
        return Box.made
"""


def test_contradictory_tests_over_objects_are_never_all_passed(verifier):
    tests = (AssertTest("a = Box()\nassert a.size() == 1"), AssertTest("b = Box()\nassert b.size() == 2"))
    problem = Problem("p", "", tests, entry_point="Box", solution=BOX)
    verdict = verifier.verify(Job(problem, BOX))
    assert not verdict.solved
    right = Problem("p", "", tests[:1] * 2, entry_point="Box", solution=BOX)
    assert verifier.verify(Job(right, BOX.replace("Box.made += 1", "self.x = 1").replace("Box.made", "1"))).solved


def test_a_program_with_memory_that_is_right_in_any_order_passes(verifier):
    tests = tuple(CallTest((n,), n * n) for n in range(5))
    program = "seen = {}\ndef f(x):\n    if x not in seen:\n        seen[x] = x * x\n    return seen[x]\n"
    verdict = verifier.verify(Job(Problem("p", "", tests, entry_point="f"), program))
    assert (verdict.passed, verdict.total) == (5, 5)


def test_a_result_that_hangs_on_earlier_calls_fails(verifier):
    tests = (CallTest((1,), [1]), CallTest((2,), [1, 2]))
    program = "def f(x, seen=[]):\n    seen.append(x)\n    return list(seen)\n"
    verdict = verifier.verify(Job(Problem("p", "", tests, entry_point="f"), program))
    assert not verdict.solved
    assert "order" in verdict.message
