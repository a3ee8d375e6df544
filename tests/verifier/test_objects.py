"""Tests over the program's own objects: held inside, judged outside. What stays weak is marked, and earns nothing."""

import dataclasses

import pytest

from grpo_project.errors import DataError
from grpo_project.problems.problem import AssertTest, CallTest, CaseTest, CheckTest, Problem
from grpo_project.verifier import Job, Verifier


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def verifier(request):
    with Verifier(workers=1, isolation=request.param, cache=False) as verifier:
        yield verifier


def judged(verifier, test, program, **options):
    problem = Problem("p", "", (test,), **({"entry_point": "f"} | options))
    return verifier.verify(Job(problem, f"```python\n{program}\n```"))


STACK = """class Stack:
    def __init__(self): self.items = []
    def push(self, item): self.items.append(item)
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
"""
ALWAYS_EQUAL = """class E:
    __hash__ = lambda s: 0
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda s, o: True
    __ne__ = lambda s, o: False
    __bool__ = lambda s: True
    __sub__ = __rsub__ = __abs__ = __round__ = lambda s, *o: 0.0
    __getattr__ = lambda s, n: E()
    __call__ = lambda s, *a, **k: E()
"""
CASES = """import unittest
class T(unittest.TestCase):
    def setUp(self):
        self.stack = Stack()
    def test_pop(self):
        self.stack.push(1)
        self.stack.push(2)
        self.assertEqual(self.stack.pop(), 2)
        self.assertEqual(self.stack.pop(), 1)
"""
OVER_OBJECTS = {
    "comparison in an assignment": "s = Stack()\ns.push(1)\nok = s.pop() == 1\nassert ok",
    "if, raise": "s = Stack()\ns.push(1)\nif s.pop() != 1:\n    raise AssertionError('wrong')",
    "helper": "def same(a, b):\n    if a != b: raise ValueError\ns = Stack()\ns.push(1)\nsame(s.pop(), 1)",
    "collected": "s = Stack()\nfor i in range(3): s.push(i)\nassert all([s.pop() == i for i in (2, 1, 0)])",
    "list equality": "s = Stack()\nfor i in range(2): s.push(i)\nassert [s.pop() == i for i in (1, 0)] == [True] * 2",
    "direct": "s = Stack()\ns.push(1)\nassert s.pop() == 1",
    "variable": "s = Stack()\ns.push(1)\nwant = 1\nassert s.pop() == want",
    "ordering": "s = Stack()\ns.push(1)\nassert s.pop() < 2",
    "difference": "s = Stack()\ns.push(1)\nassert abs(s.pop() - 1) < 1e-6",
    "rounded": "s = Stack()\ns.push(1.2)\nassert round(s.pop() - 1.2, 3) == 0",
    "membership": "s = Stack()\ns.push(1)\nassert s.pop() in (1, 2)",
    "among items": "s = Stack()\ns.push(1)\nassert 1 in s.items and s.pop() == 1",
    "text": "s = Stack()\ns.push('abc')\nassert s.pop().startswith('ab')",
    "runner": f"{CASES}r = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))\n"
    "assert r.wasSuccessful()",
    "unittest.main": f"{CASES}unittest.main()",
    "guarded main": f"{CASES}if __name__ == '__main__':\n    unittest.main(argv=['x'], exit=False)",
    "pytest.raises": "import pytest\ns = Stack()\nwith pytest.raises(IndexError):\n    s.pop()\nassert len(s) == 0",
    "exit": "import sys\ns = Stack()\ns.push(3)\nif s.pop() != 3: sys.exit(1)",
}
EMPTY = """import unittest
for name in dir(unittest.TestCase):
    if name.startswith('assert'): setattr(unittest.TestCase, name, lambda *a, **k: None)
unittest.TestResult.wasSuccessful = lambda s: True
class Stack:
    pass
"""


@pytest.mark.parametrize("name", OVER_OBJECTS)
def test_objects_are_judged_outside_and_count_as_evidence(verifier, name):
    options = {"entry_point": "Stack", "solution": STACK}
    test = AssertTest(OVER_OBJECTS[name])
    right = judged(verifier, test, STACK, **options)
    assert (right.solved, right.weak) == (True, False), right.message
    sly = ALWAYS_EQUAL + STACK.replace("return self.items.pop()", "return E()").replace(
        "self.items = []", "self.items = E()"
    )
    for program in (sly, EMPTY, STACK.replace("pop()", "pop() and None"), STACK.replace(".append(item)", "")):
        if name != "pytest.raises" or program is EMPTY:  # that one asks for no value
            assert not judged(verifier, test, program, **options).solved, program


@pytest.mark.parametrize(
    "source",
    [
        "s = Stack()\ns.push(1)\nassert s.pop() == 1",
        "def check(c):\n    s = c()\n    s.push(1)\n    assert s.pop() == 1",
    ],
)
def test_a_class_as_the_entry_point(verifier, source):
    test = CheckTest(source) if "check" in source else AssertTest(source)
    for options in ({"entry_point": "Stack"}, {"entry_point": "Stack", "solution": STACK}):
        assert judged(verifier, test, STACK, **options).solved
        assert not judged(verifier, test, STACK.replace("pop()", "pop() + 1"), **options).solved


VECTOR = """class Vector:
    def __init__(self, *xs): self.xs = xs
    def __eq__(self, other): return self.xs == other.xs
    def __add__(self, other): return Vector(*(a + b for a, b in zip(self.xs, other.xs)))
    def __mul__(self, k): return Vector(*(a * k for a in self.xs))
    def __contains__(self, x): return x in self.xs
    def __iter__(self): return iter(self.xs)
    def __len__(self): return len(self.xs)
    def __getitem__(self, i): return self.xs[i]
    def __bool__(self): return any(self.xs)
    def __str__(self): return f"<{self.xs}>"
    def __enter__(self): return self
    def __exit__(self, *a): self.xs = ()
"""
WEAK = {
    "assert Vector(1, 2) == Vector(1, 2)": True,
    "v = Vector(1) + Vector(2)\nassert v == Vector(3)": True,
    "import unittest\nunittest.TestCase().assertEqual(Vector(1), Vector(1))": True,
    "assert isinstance(Vector(1), Vector)": True,
    "assert (Vector(1, 2) + Vector(1, 1)).xs == (2, 3)": False,
    "assert ((Vector(1) + Vector(1)) * 2).xs == (4,)": True,
    "assert (Vector(1, 2) * 3).xs == (3, 6)": False,
    "assert list(Vector(1, 2)) == [1, 2] and len(Vector(1)) == 1 and Vector(5, 6)[1] == 6": False,
    "assert 2 in Vector(1, 2) and 3 not in Vector(1, 2)": False,
    "assert not Vector(0)\nassert Vector(1)\nassert str(Vector(1)) == '<(1,)>'": False,
    "with Vector(1) as v:\n    assert v.xs == (1,)\nassert v.xs == ()": False,
    "assert type(Vector(1)).__name__ == 'Vector'": False,
    "v = Vector(1)\nv.xs = (7,)\nassert v[0] == 7": False,
}


@pytest.mark.parametrize("source", WEAK)
def test_what_only_the_program_s_objects_can_judge_is_weak_by_the_problem_alone(verifier, source):
    for program in (VECTOR, "class Vector:\n    pass"):
        verdict = judged(verifier, AssertTest(source), program, entry_point="Vector", solution=VECTOR)
        assert verdict.tests[0].weak is verdict.weak is WEAK[source]
        assert verdict.solved is (program is VECTOR), verdict.message


EXPRESSED = {
    "assert f(len, ['a', 'bb']) == [1, 2]": "def f(g, xs): return [g(x) for x in xs]",
    "def g(x): return x + 1\nassert f(g, [1, 2]) == [2, 3]": "def f(g, xs): return [g(x) for x in xs]",
    "import operator\nassert f(operator.add, [1, 2]) == 3": "def f(g, xs): return g(*xs)",
    "seen = []\nf(seen.append, 3)\nassert seen == [3]": "def f(g, x): g(x)",
    "assert f(range(4)) == 6": "def f(xs): return sum(xs)",
    "assert f(x for x in [1, 2]) == 3": "def f(xs): return sum(xs)",
    "import datetime\nassert f(datetime.date(2020, 1, 31)) == datetime.date(2020, 2, 1)": "import datetime\n"
    "def f(d): return d + datetime.timedelta(1)",
    "from decimal import Decimal\nassert f(Decimal('1.5')) == Decimal('3.0')": "def f(d): return d * 2",
    "from collections import deque\nassert f(deque([1, 2])) == deque([2, 1])": "def f(q): q.reverse(); return q",
    "assert f(int, [1, 'a']) == [1]": "def f(t, xs): return [x for x in xs if isinstance(x, t)]",
    "assert f(3)(4) == 7": "def f(a): return lambda b: a + b",
    "@f\ndef g(x): return x\nassert g(4) == 8": "def f(fn): return lambda x: 2 * fn(x)",
    "assert f(3) == range(3)": "def f(n): return range(n)",
    "g = f(3)\nassert next(g) == 0\nassert next(g) == 1": "def f(n): yield from range(n)",
    "from itertools import islice\nassert list(islice(f(), 3)) == [0, 1, 2]": "import itertools\n"
    "def f(): yield from itertools.count()",
    "r = f(1, 2)\nassert r.x == 1 and r == (1, 2)": "from collections import namedtuple\nP = namedtuple('P', 'x y')\n"
    "def f(*a): return P(*a)",
    "r = f(1)\nassert r.x == 1": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
    "def f(a): return P(a)",
    "try:\n    f()\n    assert False\nexcept MyError as e:\n    assert str(e) == 'neg' and e.code == 3": "class "
    "MyError(Exception):\n    code = 3\ndef f(): raise MyError('neg')",
    "try:\n    f('k')\n    assert False\nexcept KeyError as e:\n    assert e.args[0] == 'k'": "def f(x): return {}[x]",
    "import asyncio\nassert asyncio.run(f(2)) == 4": "async def f(x): return x * 2",
    "assert LIMIT == 5": "LIMIT = 5\ndef f(): pass",
    "assert f.__doc__ == 'doc' and f.__name__ == 'f'": "def f():\n    'doc'",
    "class Node:\n    def __init__(self, v, n=None): self.v, self.n = v, n\nassert f(Node(1, Node(2))) == 3": "def "
    "f(n):\n    total = 0\n    while n is not None: total += n.v; n = n.n\n    return total",
    "x = [1]\nassert f(x, x)": "def f(a, b): return a is b",
    "b = bytearray(b'ab')\nf(b)\nassert b == bytearray(b'ba')": "def f(b): b.reverse()",
    "a = [1, 1, 2]\nk = f(a)\nassert k == 2\nassert a[:k] == [1, 2]": "def f(a):\n"
    "    b = sorted(set(a)); a[:len(b)] = b\n    return len(b)",
    "assert f((1, 2)) == math.hypot(1, 2)": "import math\ndef f(t): return math.hypot(*t)",
}


@pytest.mark.parametrize("source", EXPRESSED)
def test_what_plain_python_passes_passes(verifier, source):
    program = EXPRESSED[source]
    verdict = judged(verifier, AssertTest(source), program, solution=program)
    assert verdict.solved, verdict.message
    assert not verdict.weak
    sly = f"{ALWAYS_EQUAL}\ndef f(*a, **k): return E()\nLIMIT = E()\nclass MyError(Exception): code = E()"
    assert not judged(verifier, AssertTest(source), sly, solution=program).solved or "(x, x)" in source


def test_numpy_arrays_are_handed_over_and_come_back(verifier):
    pytest.importorskip("numpy")
    test = AssertTest("import numpy as np\nassert np.array_equal(f(np.array([1, 2])), np.array([2, 4]))")
    assert judged(verifier, test, "def f(a): return a * 2").solved
    assert not judged(verifier, test, "def f(a): return a").solved
    assert not judged(verifier, test, f"{ALWAYS_EQUAL}\ndef f(a): return E()").solved


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()): f()", "redirect_stdout"),
        ("from unittest.mock import patch\nwith patch('builtins.input', return_value='5'): assert f() == 5", "input"),
        ("xs = [1]\nassert f(xs) is xs", "one object"),
        ("assert len({f() for _ in range(20)}) > 1", "something else each time"),
        ("seen = set(f() for _ in range(20))\nassert len(seen) != 1", "something else each time"),
        ("a = f(3)\nb = f(3)\nassert a != b", "something else each time"),
        ("import no_such_module\nassert f() == 1", "no_such_module"),
        ("import threading\nassert f(threading.Lock()) == 1", "handed"),
    ],
)
def test_what_can_t_be_expressed_is_told_and_names_the_test(verifier, source, named):
    with pytest.raises(DataError, match=f"problem p: test 1: .*{named}"):
        judged(verifier, AssertTest(source), "def f(*a): return 1")


IN_PLACE = [
    AssertTest("xs = [3, 1, 2]\nf(xs)\nassert xs == [1, 2, 3]"),
    AssertTest("ys = [5, 4]\nassert f(ys) == sorted(ys)"),
]


def test_changes_in_place_are_seen_by_the_test_that_looks_at_them_only(verifier):
    program = "def f(x):\n    if len(x) == 3: x[:] = [1, 2, 3]; return\n    x.clear()\n    return []"
    verdict = verifier.verify(Job(Problem("p", "", tuple(IN_PLACE), entry_point="f"), program))
    assert [test.passed for test in verdict.tests] == [True, False]
    both = CheckTest(
        "def check(c):\n    xs = [3, 1, 2]\n    c(xs)\n    assert xs == [1, 2, 3]\n"
        "    for ys in ([5, 4], [9, 7]):\n        assert c(ys) == sorted(ys)"
    )
    assert not judged(verifier, both, program).solved


def test_an_argument_that_should_have_been_left_alone(verifier):
    test = AssertTest("xs = [3, 1]\nassert f(xs) == [1, 3]\nassert xs == [3, 1]")
    assert judged(verifier, test, "def f(xs): return sorted(xs)").solved
    assert not judged(verifier, test, "def f(xs):\n    xs.sort()\n    return xs").solved


def test_the_same_call_made_twice_tells_of_what_a_program_remembers(verifier):
    test = AssertTest("assert f(1) == [1]\nassert f(1) == [1]")
    assert not judged(verifier, test, "def f(x, seen=[]):\n    seen.append(x)\n    return list(seen)").solved
    assert judged(verifier, test, "class A: pass\ndef f(x): return [x]").solved


FILE = """import unittest
from two_fer import two_fer
import two_fer as module

class TwoFerTest(unittest.TestCase):
    def test_no_name(self):
        self.assertEqual(two_fer(), "One for you.")

    def test_name(self):
        self.assertEqual(module.two_fer("Alice"), "One for Alice.")

def test_alone():
    assert two_fer("Bob") == "One for Bob."

if __name__ == "__main__":
    unittest.main()
"""


def test_the_cases_of_a_test_file_each_count(verifier):
    cases = ("TwoFerTest.test_no_name", "TwoFerTest.test_name", "test_alone")
    tests = tuple(CaseTest(FILE, case, "two_fer") for case in cases)
    problem = Problem("p", "", tests, entry_point="two_fer")

    def passed(program):
        return [test.passed for test in verifier.verify(Job(problem, f"```python\n{program}\n```")).tests]

    assert passed("def two_fer(name='you'): return f'One for {name}.'") == [True, True, True]
    assert passed("def two_fer(name='you'): return 'One for you.'") == [True, False, False]
    assert passed("import unittest\nunittest.TestCase.assertEqual = print\ndef two_fer(*a): pass") == [False] * 3
    assert passed(f"{ALWAYS_EQUAL}\ndef two_fer(*a): return E()") == [False] * 3


def test_objects_of_the_test_give_no_way_out(verifier):
    """A program may call what a test hands over, and use its public attributes: nothing behind them."""
    probe = """def f(node, fn):
    found = []
    for look in (lambda: fn.__globals__['SECRET'], lambda: node._hidden, lambda: node.__class__.__init__.__globals__,
                 lambda: node.__dict__['_hidden'], lambda: fn.__closure__[0].cell_contents):
        try:
            if 'secret' in str(look()): found.append(1)
        except Exception:
            pass
    return found
"""
    source = """SECRET = 'secret'
class Node:
    def __init__(self): self._hidden = SECRET
def fn(): return SECRET and 1
assert f(Node(), fn) == []"""
    verdict = judged(verifier, AssertTest(source), probe)
    assert verdict.solved, verdict.message


def test_calls_tests_stay_as_they_are(verifier):
    for program in ("def f(x): return (y for y in [x])", f"{ALWAYS_EQUAL}\ndef f(x): return E()", "def f(x): return f"):
        assert not judged(verifier, CallTest((1,), [1]), program).solved
    problem = Problem("p", "", (CallTest((3,), 3),), entry_point="f")
    asked = dataclasses.replace(
        problem, checker="def check(args, kwargs, got, expected):\n    return got.x == expected"
    )
    program = "class P:\n    def __init__(self, x): self.x = x\ndef f(x): return P(x)"
    assert verifier.verify(Job(asked, program)).solved


def test_an_iterator_without_end_ends_the_test_and_a_long_one_does_not(verifier):
    """Each item is made inside at the test's request: without a bound, judging would go on until its own limit."""
    test = AssertTest("assert sum(Numbers().up_to) == sum(range(20_000)) and 7 in Numbers().up_to")
    program = "import itertools\nclass Numbers:\n    @property\n    def up_to(self): return {}"
    long = judged(verifier, test, program.format("(n for n in range(20_000))"), entry_point="Numbers")
    endless = judged(verifier, test, program.format("itertools.count()"), entry_point="Numbers")
    assert (long.passed, endless.passed) == (1, 0), long.message
    assert "counts as endless" in endless.message
