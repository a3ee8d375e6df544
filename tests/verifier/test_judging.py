"""What counts as a right answer: kinds of tests, comparison, checkers, limits and partial credit."""

import math

import pytest

from grpo_project.errors import DataError
from grpo_project.problems.problem import AssertTest, CallTest, CheckTest, Comparison, Problem, StdioTest
from grpo_project.verifier import Job, Status, Verifier


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2, cache=False) as verifier:
        yield verifier


def fenced(code):
    return f"```python\n{code}\n```"


def returns(expression, *lines):
    return "\n".join([*lines, "def f(*args):", f"    return {expression}"])


def passes(verifier, program, *tests, **options):
    problem = Problem("p", "", tests, **({"entry_point": "f"} | options))
    verdict = verifier.verify(Job(problem, fenced(program)))
    assert verdict.total == len(tests)
    return verdict.solved


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2.0", 2),
        ("True", 1),
        ("(1, [2, 3])", [1, (2, 3)]),
        ("{'a': (1,)}", {"a": [1]}),
        ("{1: 2, (3, 4): {5}}", {1: 2, (3, 4): {5}}),
        ("frozenset([1])", {1}),
        ("b'\\xff'", b"\xff"),
        ("1j", 1j),
        ("[10 ** 5000]", [10**5000]),
        ("float('nan')", math.nan),
        ("[float('inf')]", [math.inf]),
        ("'\\ud800'", "\ud800"),
        ("C(a=1)", {"a": 1}),
        ("P(1, 2)", [1, 2]),
        ("None", None),
        ("''", ""),
    ],
)
def test_equal_values(verifier, expression, expected):
    program = returns(expression, "from collections import Counter as C, namedtuple", "P = namedtuple('P', 'x y')")
    assert passes(verifier, program, CallTest((), expected))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'2'", 2),
        ("[1, 2]", [1, 2, 3]),
        ("[1, 2, 3]", [1, 2]),
        ("{1: 1, 2: 2}", {1: 1}),
        ("0.1 + 0.2", 0.3),
        ("None", 0),
        ("{1, 2}", [1, 2]),
        ("(x for x in [1])", [1]),
        ("range(3)", [0, 1, 2]),
        ("b'a'", "a"),
        ("object()", None),
        ("[]", [[]]),
    ],
)
def test_unequal_values(verifier, expression, expected):
    assert not passes(verifier, returns(expression), CallTest((), expected))


def test_comparison_is_the_problem_s_choice(verifier):
    third = CallTest((), [1 / 3, {"a": 0.5}])
    close = returns("[0.333333333, {'a': 0.5000000001}]")
    assert passes(verifier, close, third, comparison=Comparison(float_tolerance=1e-6))
    assert not passes(verifier, close, third)
    nan = CallTest((), [math.nan])
    assert not passes(verifier, returns("[float('nan')]"), nan, comparison=Comparison(nan_equal=False))
    exact = Comparison(distinguish_sequences=True)
    assert not passes(verifier, returns("[1]"), CallTest((), (1,)), comparison=exact)
    assert passes(verifier, returns("(1,)"), CallTest((), (1,)), comparison=exact)


def test_arguments_reach_the_function_unchanged(verifier):
    program = "def f(a, *, b):\n    return [type(a).__name__, type(b).__name__, a, b]"
    test = CallTest(((1, 2),), ["tuple", "set", (1, 2), {3}], {"b": {3}})
    assert passes(verifier, program, test)


def test_a_checker_accepts_several_right_answers(verifier):
    checker = "def check(args, kwargs, got, expected):\n    return abs(got * got - args[0]) < 1e-6\n"
    tests = (CallTest((4,), None), CallTest((9,), None))
    assert passes(verifier, "def f(x):\n    return -(x ** 0.5)", *tests, checker=checker)
    assert not passes(verifier, "def f(x):\n    return 'no number'", *tests, checker=checker)


RIGHT = "def f(x):\n    if x < 0:\n        raise ValueError('negative')\n    return x ** 0.5\n"


@pytest.mark.parametrize(
    "source",
    [
        "assert f(4) == 2",
        "assert f(4) == 2.0, 'message'",
        "assert 2 == f(4)",
        "assert f(4) is not None and f(4) > 1",
        "assert f(0) in (0, 1)",
        "assert f(2) < 1.5 < f(4)",
        "assert abs(f(2) - 1.41421) < 1e-3",
        "import math\nassert math.isclose(f(2), math.sqrt(2))",
        "assert not f(4) != 2",
        "assert f(f(16)) == 2",
        "assert [f(n) for n in (1, 4)] == [1, 2]",
        "for n in range(5):\n    assert f(n * n) == n",
        "x = 4\nassert f(x) == 2",
        "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass",
        "import unittest\nunittest.TestCase().assertRaises(ValueError, f, -1)",
        "import unittest\nwith unittest.TestCase().assertRaises(ValueError):\n    f(-1)",
        "assert str(f(4)) == '2.0'",
        "assert round(f(2), 2) == 1.41",
    ],
)
def test_assert_statements(verifier, source):
    assert passes(verifier, RIGHT, AssertTest(source))
    for wrong in ("None", "-7.5", "'x'"):
        assert not passes(verifier, f"def f(x):\n    return {wrong}", AssertTest(source))


STACK = """
class Stack:
    def __init__(self):
        self.items = []
    def push(self, item):
        self.items.append(item)
    def peek(self):
        return self.items[-1]
    def __eq__(self, other):
        return self.items == other.items
"""


def test_objects_stay_inside_and_their_values_are_compared_outside(verifier):
    tests = (AssertTest("s = Stack()\ns.push(1)\ns.push(2)\nassert s.peek() == 2\nassert len(s.items) == 2"),)
    problem = Problem("p", "", tests, entry_point="Stack", solution=STACK)
    verdict = verifier.verify(Job(problem, fenced(STACK)))
    assert verdict.solved
    assert not verdict.weak
    sly = "class Sly:\n    __eq__ = lambda a, b: True\n"
    fooled = STACK.replace("return self.items[-1]", "return Sly()")
    assert not verifier.verify(Job(problem, fenced(sly + fooled))).solved


def test_what_only_the_candidate_s_class_can_judge_is_marked_weak(verifier):
    problem = Problem("p", "", (AssertTest("assert Stack() == Stack()"),), entry_point="Stack", solution=STACK)
    verdict = verifier.verify(Job(problem, fenced(STACK)))
    assert verdict.solved
    assert verdict.weak


def test_a_function_as_an_argument_runs_inside(verifier):
    test = AssertTest("assert f(lambda x: x + 1, [1, 2]) == [2, 3]")
    assert passes(verifier, "def f(g, xs):\n    return [g(x) for x in xs]", test)
    assert not passes(verifier, "def f(g, xs):\n    return xs", test)


def test_how_a_candidate_is_judged_is_not_its_own_choice(verifier):
    """An object where a plain value is due fails; it does not move the comparison into the candidate's process."""
    sly = "class Sly:\n    __eq__ = lambda a, b: True\ndef f(x):\n    return Sly()"
    assert not passes(verifier, sly, AssertTest("assert f(4) == 2"))


def test_check_functions_use_the_prompt_s_own_helpers(verifier):
    prompt = 'def double(x):\n    return 2 * x\n\n\ndef f(x):\n    """Half of x."""\n'
    check = CheckTest("def check(candidate):\n    for n in range(20):\n        assert candidate(double(n)) == n\n")
    problem = Problem("p", prompt, (check,), entry_point="f", starter_code=prompt)
    assert verifier.verify(Job(problem, "    return x // 2\n")).solved
    cheat = "def double(x):\n    return 0\n\ndef f(x):\n    return 0\n"
    assert not verifier.verify(Job(problem, fenced(cheat))).solved


def test_test_code_that_catches_everything_does_not_turn_an_end_into_a_pass(verifier):
    check = CheckTest(
        "def check(candidate):\n    try:\n        candidate(1)\n    except BaseException:\n        pass\n"
    )
    verdict = verifier.verify(Job(Problem("p", "", (check,), entry_point="f"), "import os\ndef f(x):\n    os._exit(0)"))
    assert verdict.status is Status.ERROR


def test_test_code_that_a_value_keeps_busy_is_ended(verifier):
    check = CheckTest("def check(candidate):\n    assert pow(3, candidate(), 7 ** 40_000) == 1\n")
    problem = Problem("p", "", (check,), entry_point="f")
    verdict = verifier.verify(Job(problem, "def f():\n    return 1 << 200_000"))
    assert verdict.status is Status.TIMEOUT
    assert verifier.verify(Job(problem, "def f():\n    return 0")).solved


def test_a_value_that_test_code_can_t_even_print_fails(verifier):
    check = CheckTest("def check(candidate):\n    got = candidate()\n    assert got == 1, got\n")
    problem = Problem("p", "", (check,), entry_point="f")
    assert verifier.verify(Job(problem, "def f():\n    return 10 ** 5000")).status is Status.FAILED


def test_partial_credit_for_tests_before_a_timeout(verifier):
    program = "def f(x):\n    while x == 3: pass\n    return x"
    tests = tuple(CallTest((n,), n) for n in (1, 2, 3, 4))
    problem = Problem("p", "", tests, entry_point="f", time_limit_s=0.3)
    verdict = verifier.verify(Job(problem, program))
    assert (verdict.status, verdict.passed, verdict.total) == (Status.TIMEOUT, 2, 4)


def test_a_missing_answer_is_a_failure_and_stays_in_the_denominator(verifier):
    program = "import os\ndef f(x):\n    if x == 2: os._exit(0)\n    return x"
    problem = Problem("p", "", tuple(CallTest((n,), n) for n in (1, 2, 3)), entry_point="f")
    verdict = verifier.verify(Job(problem, program))
    assert (verdict.passed, verdict.total, len(verdict.tests)) == (1, 3, 3)


def test_answers_that_fill_the_link_many_times_arrive(verifier):
    many = tuple(CallTest((n,), n) for n in range(2000))
    assert passes(verifier, "def f(n):\n    return n", *many)
    wide = tuple(CallTest((n,), str(n) * 1_000_000) for n in range(4))
    assert passes(verifier, "def f(n):\n    return str(n) * 1_000_000", *wide)


def test_programs_draw_random_numbers_of_their_own(verifier):
    problem = Problem("p", "", (CallTest((), None),), entry_point="f")
    programs = [f"import random\ndef f():\n    return random.random()  # {n}" for n in range(3)]
    verdicts = verifier.verify_many([Job(problem, fenced(program)) for program in programs])
    assert len({verdict.tests[0].got for verdict in verdicts}) == 3


IN_PLACE = {
    "asserts": AssertTest("xs = [3, 1]\nassert f(xs) is None\nassert xs == [1, 3]"),
    "twice": AssertTest("xs = [3, 1]\nf(xs)\nxs.append(2)\nf(xs)\nassert xs == [1, 2, 3]"),
    "check": CheckTest("def check(candidate):\n    xs = [3, 1]\n    candidate(xs)\n    assert [1, 3] == xs\n"),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_functions_that_change_their_argument_are_judged_by_what_they_made_of_it(verifier, name):
    assert passes(verifier, "def f(xs):\n    xs.sort()", IN_PLACE[name])
    for wrong in ("pass", "xs.clear()", "xs[:] = sorted(xs, reverse=True)", "xs = sorted(xs)", "return sorted(xs)"):
        assert not passes(verifier, f"def f(xs):\n    {wrong}", IN_PLACE[name])


def test_other_tests_do_not_see_what_becomes_of_an_argument(verifier):
    """Else emptying it would make this one hold."""
    test = AssertTest("xs = [3, 1]\nassert f(xs) == sorted(xs)")
    assert not passes(verifier, "def f(xs):\n    xs.clear()\n    return xs", test)


def test_loading_slowly_is_told_from_looping(verifier):
    test = CallTest((1,), 1)
    problem = Problem("p", "", (test,), entry_point="f", time_limit_s=0.3)
    burn = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    assert verifier.verify(Job(problem, fenced(burn + "def f(x):\n    return x"))).solved
    verdict = verifier.verify(Job(problem, fenced("while True: pass")))
    assert verdict.status is Status.TIMEOUT
    assert "loading" in verdict.message


def test_early_stop_leaves_the_rest_out():
    problem = Problem("p", "", tuple(CallTest((n,), n) for n in range(4)), entry_point="f")
    with Verifier(workers=1, stop_early=True) as verifier:
        verdict = verifier.verify(Job(problem, "def f(x):\n    return x if x != 1 else 9"))
    assert (verdict.passed, verdict.total) == (1, 4)
    assert "not run" in verdict.tests[3].message


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("1 2\n0.5\n", True),
        ("1 2  \n0.5\n\n\n", True),
        ("1   2\n0.5", True),
        ("1 2\r\n0.5\r\n", True),
        ("1 2\n0.5000000000001\n", True),
        ("1 2\n0.51\n", False),
        ("1 3\n0.5\n", False),
        ("1 2 0.5\n", False),
        ("1 2\n\n0.5\n", False),
        ("1 2\n0.5\n7\n", False),
        ("1.0 2\n0.5\n", False),
        ("1 2E0\n0.5\n", False),
    ],
)
def test_output_is_compared_with_tolerance_for_blanks_and_floats(verifier, printed, same):
    test = StdioTest("", "1 2\n0.5\n")
    assert passes(verifier, f"import sys\nsys.stdout.write({printed!r})", test, entry_point=None) is same


def test_a_number_without_a_point_has_to_be_printed_as_expected(verifier):
    test = StdioTest("", "12E3\n")
    assert passes(verifier, "print('12E3')", test, entry_point=None)
    assert not passes(verifier, "print(12000)", test, entry_point=None)


def test_programs_may_end_by_exit_and_quit(verifier):
    for end in ("exit()", "exit(0)", "quit()", "raise SystemExit"):
        assert passes(verifier, f"print(3)\n{end}\nprint(4)", StdioTest("", "3\n"), entry_point=None)
    assert not passes(verifier, "print(3)\nexit(1)", StdioTest("", "3\n"), entry_point=None)


def test_programs_read_their_input_in_every_way(verifier):
    test = StdioTest("3\n4 ä\n", "3 4 ä\n")
    for program in (
        "print(input(), input())",
        "import sys\nprint(*sys.stdin.read().split())",
        "import sys\nprint(*(line.strip() for line in sys.stdin))",
        "import os\nos.write(1, os.read(0, 99).replace(b'\\n', b' ', 1))",
        "if __name__ == '__main__':\n    print(open(0).read().replace('\\n', ' ', 1), end='')",
        "import sys\ndef main():\n    print(*sys.stdin.buffer.read().decode().split())\n    sys.exit()\nmain()",
    ):
        assert passes(verifier, program, test, entry_point=None), program


def test_numpy_is_ready_where_it_is_imported(verifier):
    pytest.importorskip("numpy")
    program = "import numpy as np\ndef f(xs):\n    return np.array(xs).sum()"
    assert passes(verifier, program, CallTest(([1, 2],), 3))
    assert not passes(verifier, program, CallTest(([1, 2],), 4))


def test_tests_that_can_t_be_run_are_the_user_s_to_mend(verifier):
    problem = Problem("broken-7", "", (AssertTest("assert f(1) =="),), entry_point="f")
    with pytest.raises(DataError, match="broken-7"):
        verifier.verify(Job(problem, "def f(x):\n    return 1"))


EXITS = {
    "pytest.raises": "import pytest\nwith pytest.raises(ValueError):\n    f(-1)",
    "SystemExit": "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    raise SystemExit('not raised')",
    "sys.exit": "import sys\ntry:\n    f(-1)\nexcept ValueError:\n    sys.exit(0)\nsys.exit(1)",
    "KeyboardInterrupt": "try:\n    f(-1)\nexcept ValueError: pass\nelse:\n    raise KeyboardInterrupt",
}


@pytest.mark.parametrize("name", EXITS)
def test_test_code_that_raises_what_is_no_exception_is_judged_as_it_stands(verifier, name):
    """The judge lives on: three of its deaths would end a run."""
    problem = Problem("p", "", (AssertTest(EXITS[name]),), entry_point="f")
    right = "def f(x):\n    if x < 0: raise ValueError\n    return x"
    assert verifier.verify(Job(problem, right)).solved
    assert not verifier.verify(Job(problem, "def f(x): return x")).solved


def test_a_test_that_exits_before_it_asks_for_anything_is_not_passed(verifier):
    problem = Problem("p", "", (AssertTest("import sys\nsys.exit(0)\nassert f(1) == 1"),), entry_point="f")
    assert not verifier.verify(Job(problem, "def f(x): return 1")).solved


def test_a_checker_that_exits_is_no_pass(verifier):
    checker = "def check(args, kwargs, got, expected):\n    raise SystemExit(0)"
    problem = Problem("p", "", (CallTest((1,), 1),), entry_point="f", checker=checker)
    assert verifier.verify(Job(problem, "def f(x): return x")).status == "failed"


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("def f(x:\n    return x", Status.SYNTAX_ERROR, "loading the program: SyntaxError: '(' was never closed"),
        ("1 / 0\ndef f(x):\n    return x", Status.ERROR, "loading the program: ZeroDivisionError: division by zero"),
    ],
)
def test_a_program_that_does_not_load_says_why(verifier, code, status, message):
    problem = Problem("p", "Return x.", (CallTest((1,), 1),), entry_point="f")
    verdict = verifier.verify(Job(problem, fenced(code)))
    assert verdict.status is status
    assert verdict.message.startswith(message)
