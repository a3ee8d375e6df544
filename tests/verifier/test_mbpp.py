"""Rows of MBPP as published, in both of its formats, through ``grpo verify``: references and completions."""

import json

import pytest

from grpo_project.cli import main

CHAIN = """class Pair(object): \r
\tdef __init__(self, a, b): \r
\t\tself.a = a \r
\t\tself.b = b \r
def max_chain_length(arr, n): \r
\tmax = 0\r
\tmcl = [1 for i in range(n)] \r
\tfor i in range(1, n): \r
\t\tfor j in range(0, i): \r
\t\t\tif (arr[i].a > arr[j].b and mcl[i] < mcl[j] + 1): \r
\t\t\t\tmcl[i] = mcl[j] + 1\r
\tfor i in range(n): \r
\t\tif (max < mcl[i]): \r
\t\t\tmax = mcl[i] \r
\treturn max"""
FULL = [
    {
        "text": "Write a function to find the longest chain which can be formed from the given set of pairs.",
        "code": CHAIN,
        "task_id": 601,
        "test_setup_code": "",
        "test_list": [
            "assert max_chain_length([Pair(5, 24), Pair(15, 25),Pair(27, 40), Pair(50, 60)], 4) == 3",
            "assert max_chain_length([Pair(1, 2), Pair(3, 4),Pair(5, 6), Pair(7, 8)], 4) == 4",
        ],
        "challenge_test_list": [],
    },
    {
        "text": "Write a python function to find the first repeated character in a given string.",
        "code": "def first_repeated_char(str1):\r\n  for index, c in enumerate(str1):\r\n"
        '    if str1[:index + 1].count(c) > 1:\r\n      return c \r\n  return "None"',
        "task_id": 602,
        "test_setup_code": "",
        "test_list": [
            'assert first_repeated_char("abcabc") == "a"',
            'assert first_repeated_char("abc") == "None"',
            'assert first_repeated_char("123123") == "1"',
        ],
        "challenge_test_list": [],
    },
    {
        "text": "Write a function to check if a binary tree is balanced or not.",
        "code": "class Node: \r\n\tdef __init__(self, data): \r\n\t\tself.data = data \r\n"
        "\t\tself.left = None\r\n\t\tself.right = None\r\n"
        "def get_height(root): \r\n\tif root is None: \r\n\t\treturn 0\r\n"
        "\treturn max(get_height(root.left), get_height(root.right)) + 1\r\n"
        "def is_tree_balanced(root): \r\n\tif root is None: \r\n\t\treturn True\r\n"
        "\treturn abs(get_height(root.left) - get_height(root.right)) <= 1 and "
        "is_tree_balanced(root.left) and is_tree_balanced(root.right)",
        "task_id": 367,
        "test_setup_code": "root = Node(1) \r\nroot.left = Node(2) \r\nroot.left.left = Node(3)",
        "test_list": ["assert is_tree_balanced(root) == False", "assert is_tree_balanced(root.left) == True"],
        "challenge_test_list": [],
    },
]
SANITIZED = [
    {
        "source_file": "Benchmark Questions Verification V2.ipynb",
        "task_id": 82,
        "prompt": "Write a function to find the volume of a sphere.",
        "code": "import math\ndef volume_sphere(r):\n  volume=(4/3)*math.pi*r*r*r\n  return volume",
        "test_imports": ["import math"],
        "test_list": [
            "assert math.isclose(volume_sphere(10), 4188.790204786391, rel_tol=0.001)",
            "assert math.isclose(volume_sphere(25), 65449.84694978735, rel_tol=0.001)",
        ],
    }
]


def full(folder):
    path = folder / "mbpp.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in FULL))
    return path


def sanitized(folder):
    path = folder / "sanitized-mbpp.json"
    path.write_text(json.dumps(SANITIZED))
    return path


@pytest.mark.parametrize("write", [full, sanitized])
def test_references_pass(write, tmp_path, capsys):
    code = main(["verify", str(write(tmp_path)), "--json", "--verifier_workers", "1"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["status"], row["passed"] == row["total"], row["weak"]) for row in rows] == [
        ("passed", True, False) for _ in rows
    ]
    assert code == 0


def test_completions_are_judged(tmp_path, capsys):
    answers = [
        ("MBPP/601", CHAIN, 2),
        ("MBPP/601", CHAIN.replace("return max", "return 3"), 1),
        ("MBPP/602", "def first_repeated_char(str1):\n    return 'a'", 1),
        ("MBPP/602", "def first_repeated_char(str1):\n    import os\n    os._exit(0)", 0),
        ("MBPP/367", FULL[2]["code"], 2),
        ("MBPP/367", FULL[2]["code"].replace("<= 1", "<= 2"), 1),
    ]
    solutions = tmp_path / "mine.jsonl"
    rows = [{"id": name, "completion": f"```python\n{code}\n```"} for name, code, _ in answers]
    solutions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["verify", str(full(tmp_path)), "--solutions", str(solutions), "--json", "--verifier_workers", "1"])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["passed"]) for row in printed] == [(name, passed) for name, _, passed in answers]
