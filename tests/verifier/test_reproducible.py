"""One program, one verdict: whatever would be chance comes from a secret of the run, the program and the tests."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest

from grpo_project.errors import ConfigError
from grpo_project.problems.problem import CallTest, Problem, StdioTest
from grpo_project.verifier import Job, Verifier
from grpo_project.verifier.cage.isolation import LEVELS

DOUBLES = Problem("double", "Double x.", tuple(CallTest((x,), 2 * x) for x in (1, 2, 3, 4)), entry_point="f")
# Remembers the largest argument so far: right only while arguments rise, so its verdict hangs on the second order.
RISING = "best = 0\ndef f(x):\n    global best\n    best = max(best, x)\n    return 2 * best\n"
COIN = Problem("coin", "0 or 1.", tuple(CallTest((x,), x % 2) for x in range(12)), entry_point="f")
CHANCE = {
    "random": "import random\ndef f(x): return random.randrange(2)",
    "a generator of its own": "from random import Random\ng = Random()\ndef f(x): return g.randrange(2)",
    "seeded anew": "import random\nrandom.seed()\ndef f(x): return random.randrange(2)",
    "the system's": "import os\ndef f(x): return os.urandom(1)[0] % 2",
    "secrets": "import secrets\ndef f(x): return secrets.randbelow(2)",
    "uuid": "import uuid\ndef f(x): return uuid.uuid4().int % 2",
    "numpy's": "import numpy as np\ndef f(x): return int(np.random.randint(2))",
    "numpy's new generator": "import numpy as np\ng = np.random.default_rng()\ndef f(x): return int(g.integers(2))",
    "the order of a set of words": "def f(x): return list({'a', 'b', 'c', 'd'}).index('a') % 2",
}


def outcomes(secret: bytes, program: str, problem: Problem, times: int) -> set[tuple]:
    seen = set()
    with Verifier(workers=1, secret=secret, cache=False) as verifier:
        for _ in range(times):
            verdict = verifier.verify(Job(problem, f"```python\n{program}\n```"))
            seen.add((tuple(test.status for test in verdict.tests), tuple(test.got for test in verdict.tests)))
    return seen


def test_a_program_that_hangs_on_the_order_is_judged_alike_each_time():
    first = outcomes(b"one", RISING, DOUBLES, 12)
    assert len(first) == 1
    assert outcomes(b"one", RISING, DOUBLES, 2) == first  # by another verifier as well


def test_another_secret_is_another_order():
    assert len(set.union(*(outcomes(bytes([n]), RISING, DOUBLES, 1) for n in range(12)))) > 1


@pytest.mark.parametrize("name", CHANCE)
def test_chance_is_the_same_each_time(name):
    first = outcomes(b"one", CHANCE[name], COIN, 4)
    assert len(first) == 1
    assert outcomes(b"one", CHANCE[name], COIN, 1) == first


ADDRESSES = """
class C:
    def __init__(self, n): self.n = n
class S:
    __slots__ = ("n",)
    def __init__(self, n): self.n = n
def make(n):
    def g(): return n
    return g
def f(x):
    objects = {object(): n for n in range(30)}
    return ([c.n for c in {C(n) for n in range(40)}], [s.n for s in {S(n) for n in range(40)}],
        [g() for g in {make(n) for n in range(40)}], [objects[o] for o in set(objects)],
        [t.n for t in {type("T", (), {"n": n}) for n in range(20)}])
"""
DISTURBING = (
    "def f(x):\n    while True: pass",
    "import os\ndef f(x): os._exit(3)",
    "import json, decimal, unittest\ndef f(x): return 1 / 0",
    "import threading\ndef f(x):\n    t = threading.Thread(target=print)\n    t.start()\n    t.join()",
)


def test_sets_of_objects_have_one_order_whatever_was_judged_before_and_at_each_level():
    """They hash by their addresses, which hang on all that their zygote has ever made (``cage.heap``)."""
    libc = ctypes.CDLL(None)
    if libc.personality(0x40000 | libc.personality(0xFFFFFFFF)) < 0:
        pytest.skip("the layout of memory can't be chosen here")
    libc.personality(libc.personality(0xFFFFFFFF) & ~0x40000)
    orders = set()
    for level in LEVELS:
        problem = Problem("order", "", (CallTest((1,), 0),), entry_point="f", time_limit_s=0.2)
        folded = ADDRESSES + "\ng = f\ndef f(x): return hash(str(g(x)))\n"
        with Verifier(workers=1, cache=False, isolation=level, secret=b"one") as verifier:
            try:
                verifier.verify(Job(problem, "def f(x): return x"))
            except ConfigError:
                continue  # not to be had here
            for other in (*DISTURBING, *DISTURBING):
                verifier.verify(Job(problem, other))
                orders.add(verifier.verify(Job(problem, folded)).tests[0].got)
    assert len(orders) == 1
    assert int(next(iter(orders)))  # it is an order, no error


def test_programs_with_standard_input_draw_the_same_each_time():
    problem = Problem("draw", "", (StdioTest("1\n", "1\n"),))
    assert len(outcomes(b"one", "import random\nprint(random.random())", problem, 4)) == 1


KEY = """
from grpo_project.errors import ConfigError
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.verifier.languages import spec_of
text = "ab" * 3
tests = (CallTest(({"x", "yy", "zzz", "w"}, "ab" * 3), frozenset(("p", "q", "r"))), CallTest((text, text), text))
print(spec_of(Problem("p", "", tests, entry_point="f")).key.hex())
"""


def test_the_key_of_tests_is_the_same_in_every_process():
    """Else a resumed run would draw another order. Strings hash differently there, and share memory differently."""
    keys = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", KEY], env=environment, capture_output=True, text=True, check=True)
        keys.add(done.stdout)
    assert len(keys) == 1


@pytest.mark.parametrize("name", ["_lock", "_cache._lock"])
def test_a_fork_while_another_thread_verifies_leaves_a_usable_child(name):
    """The lock is held by a thread that the child does not have."""
    with Verifier(workers=1) as verifier:
        job = Job(DOUBLES, "def f(x): return 2 * x")
        verifier.verify(job)
        lock = verifier._lock if name == "_lock" else verifier._cache._lock
        held, done = threading.Event(), threading.Event()

        def hold():
            with lock:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            try:
                threading.Timer(20, os._exit, (3,)).start()
                os._exit(0 if verifier.verify(job).solved else 1)
            finally:
                os._exit(2)
        done.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
