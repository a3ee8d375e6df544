"""Where the program is in what a model writes."""

import subprocess
import sys

import pytest

from grpo_project.problems.problem import CallTest, Problem, StdioTest
from grpo_project.verifier import extract_code

STARTER = 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef f(x):\n    """Doc."""\n'
WITH_STARTER = Problem("p", "Do it.", (CallTest((1,), 1),), entry_point="f", starter_code=STARTER)
PLAIN = Problem("p", "Do it.", (CallTest((1,), 1),), entry_point="f")
PROGRAM = Problem("p", "Read and add.", (StdioTest("", ""),))
CODE = "def f(x):\n    return x"


def run(code):
    assert code is not None
    namespace = {}
    exec(compile(code, "x", "exec"), namespace)
    return namespace["f"](3)


@pytest.mark.parametrize("problem", [PLAIN, WITH_STARTER])
@pytest.mark.parametrize(
    "text",
    [
        CODE,
        f"```python\n{CODE}\n```",
        f"```\n{CODE}\n```",
        f"```py\n{CODE}",
        f"~~~python\n{CODE}\n~~~",
        f"Sure! Here it is:\n\n```python\n{CODE}\n```\n\nIt returns x.",
        f"First try:\n```python\ndef f(x):\n    return 0\n```\nBetter:\n```python\n{CODE}\n```",
        f"```python\n{CODE}\n```\nUse it like this:\n```python\nprint(f(3))\n```\nOutput:\n```\n3\n```",
        f"Run `pip install x`:\n```bash\npip install x\n```\n```python\n{CODE}\n```",
        f"The answer is below.\n\n{CODE}\n\nThis works because x is x.",
        f"{CODE}\n\n\n# a comment\nprint(f(1))\n\nNote: it's fast.",
        f"import math\n\n{CODE}",
        CODE.replace("\n", "\r\n"),
        'def f(x):\n    s = """\nprose at the margin\n"""\n    return x',
        "def f(\n    x,\n):\n    return (\nx\n    )",
        "f = lambda x: x",
        f"<think>\nLet me see: f must return x.\n</think>\n\n```python\n{CODE}\n```",
    ],
)
def test_a_whole_function_is_found(problem, text):
    assert run(extract_code(text, problem)) == 3


@pytest.mark.parametrize(
    "text",
    [
        "    return helper(x)\n",
        "    y = helper(x)\n    return y\n\nThat is all.",
        "\n    return x",
        "```python\n    return x\n```",
        "    return x\n\n\ndef g():\n    return f(2)\n",
        "    def g():\n        return x\n    return g()",
    ],
)
def test_a_body_continues_the_starter_code(text):
    assert run(extract_code(text, WITH_STARTER)) == 3


def test_imports_and_helpers_of_the_starter_code_come_along():
    code = extract_code("```python\ndef f(x):\n    return math.floor(helper(x))\n```", WITH_STARTER)
    assert run(code) == 3


def test_a_prompt_that_is_code_is_continued_as_well():
    problem = Problem("p", STARTER, (CallTest((1,), 1),), entry_point="f")
    assert run(extract_code("    return helper(x)\n", problem)) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\n",
        "I don't know.",
        "The function returns x, for each x.",
        "If x is 3: stop.",
        "```python\n\n```",
        "```\n```",
    ],
)
def test_no_code(text):
    assert extract_code(text, PLAIN) is None


@pytest.mark.parametrize(
    "text",
    [
        "n = int(input())\nprint(n)",
        "```python\nn = int(input())\nprint(n)\n```",
        "Here:\n\nimport sys\nfor line in sys.stdin:\n    print(line)\n\nThat prints each line.",
        "a, b = map(int, input().split())\nprint(a + b)",
        "while True:\n    try:\n        print(input())\n    except EOFError:\n        break",
    ],
)
def test_programs(text):
    code = extract_code(text, PROGRAM)
    assert code is not None
    compile(code, "x", "exec")
    assert "print" in code


HOSTILE = """
import resource
from grpo_project.problems.problem import CallTest, Problem, StdioTest
from grpo_project.verifier.extract import extract_code

resource.setrlimit(resource.RLIMIT_CPU, (60, 60))  # linear time takes some two seconds, quadratic time takes hours
call, starter = (CallTest((1,), 1),), "import math\\ndef f(x):\\n"
problems = [
    Problem("p", "", call, entry_point="f"),
    Problem("p", "", call, entry_point="f", starter_code=starter),
    Problem("p", "", (StdioTest("", ""),)),
]
N = 200_000
for unit in UNITS:
    long, line = unit * (N // len(unit)), "x: " + (unit * 390)[:390]
    for problem in problems:
        for text in (long, "f" + long + "`", (line + "\\n") * 500):
            extract_code(text, problem)
"""
UNITS = [
    "~",
    "`",
    "```",
    " ",
    "\t",
    "\n",
    "\r",
    "(",
    "a",
    "x.",
    "a[]",
    "a , ",
    ": ",
    "if :",
    "'",
    '"',
    '"""',
    "def\n",
    "@x\n",
    "=",
]


def test_hostile_texts_take_linear_time():
    program = HOSTILE.replace("UNITS", repr(UNITS))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
