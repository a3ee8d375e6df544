"""Whatever a file holds, the answer is problems or one DataError, never a traceback."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from problem_rows import problem

from grpo_project.errors import DataError
from grpo_project.problems.formats import load_problems
from grpo_project.problems.identity import dataset_fingerprint
from grpo_project.problems.native import FIELDS, KIND_OF_KEY
from grpo_project.problems.published import HUMANEVAL_FIELDS, MBPP_FIELDS

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("f(1"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(KIND_OF_KEY)), inner, max_size=3)
    ),
    max_leaves=6,
)


def outcome(folder, data):
    path = folder / "data"
    path.write_bytes(data)
    try:
        dataset_fingerprint(load_problems(path))
    except DataError as error:
        assert str(error).startswith(f"{path}: ")
        assert len(str(error).splitlines()) <= 22


def rows(fields):
    return st.lists(st.dictionaries(st.sampled_from(sorted(fields)), VALUES, max_size=6), max_size=3)


@settings(max_examples=200, deadline=None)
@given(fields=st.sampled_from([FIELDS, HUMANEVAL_FIELDS, MBPP_FIELDS]), data=st.data())
def test_rows_of_any_values(tmp_path_factory, fields, data):
    found = data.draw(rows(fields))
    good = problem() if fields is FIELDS else dict.fromkeys(fields, "x")
    merged = [good | row for row in found]
    outcome(tmp_path_factory.getbasetemp(), json.dumps(merged).encode())
    outcome(tmp_path_factory.getbasetemp(), "\n".join(map(json.dumps, found)).encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 120))
def test_damaged_bytes(tmp_path_factory, noise, at):
    whole = json.dumps([problem("a"), problem("b")]).encode()
    outcome(tmp_path_factory.getbasetemp(), noise)
    outcome(tmp_path_factory.getbasetemp(), whole[:at] + noise + whole[at + len(noise) :])
