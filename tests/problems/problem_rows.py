"""Writes small problem files for the tests, and reads what is said about bad ones."""

import json

import pytest

from grpo_project.errors import DataError
from grpo_project.problems.formats import load_problems


def problem(id="p", **changes):
    row = {"id": id, "prompt": "Do it.", "tests": [{"assert": "assert f(1) == 2"}]} | changes
    return {key: value for key, value in row.items() if value is not ...}


def write(tmp_path, *rows, name="data.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def error_of(path):
    with pytest.raises(DataError) as caught:
        load_problems(path)
    return str(caught.value)
