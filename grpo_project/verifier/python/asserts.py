"""Assert statements over the candidate's own objects, split by their syntax tree: parts run inside, judged outside.

Most asserts call functions on plain values, and run outside as they stand with the functions as remote calls. Where a
test makes objects of the candidate's classes, or hands it a function, those can't leave the cage. Then the statements
run inside, of each assertion only the sub-expressions over such objects do; their plain values are compared outside:

    stack = Stack(); stack.push(1)        inside
    assert stack.peek() == 1              inside: stack.peek()     outside: <value> == 1
    assert Point(1, 2) == Point(1, 2)     inside as a whole, and weak: the candidate's own __eq__ is the judge
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_DATA_TYPES = (str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset)
_DATA_METHODS = frozenset(name for kind in _DATA_TYPES for name in dir(kind) if not name.startswith("_"))
# Built-in functions that mean the same over a plain value outside as over the object inside.
_OUTSIDE_CALLS = frozenset(("abs", "all", "any", "bool", "float", "int", "len", "max", "min", "round", "sorted", "sum"))
_CONTAINER_CALLS = frozenset(("dict", "frozenset", "list", "set", "str", "tuple"))
_OPINIONS = frozenset(("callable", "hasattr", "isinstance", "issubclass"))


@dataclass(slots=True)
class Step:
    """One statement of a test: ``inside`` sources run in the cage, ``outside`` is compiled from them for the judge."""

    inside: list[str] = field(default_factory=list)
    """A statement, or the expressions whose values ``outside`` names ``_value_0``, ``_value_1``, ..."""
    outside: str = ""
    """An expression that has to be true; empty for a statement that only runs."""
    weak: bool = False


def needs_objects(tree: ast.Module, classes: frozenset[str], given: frozenset[str]) -> bool:
    """Whether the test holds objects of the candidate's, so that it can't run outside as it stands.

    Decided by the problem alone: what a candidate returns must not choose how it is judged. ``classes`` are known
    classes of the candidate's, ``given`` the names that the test or the data set defines.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in given and not hasattr(builtins, node.id):
            if node.id in classes:
                return True
        elif isinstance(node, ast.Call):
            own = isinstance(node.func, ast.Name) and node.func.id not in given
            if own and not hasattr(builtins, node.func.id) and _has_function(node):  # type: ignore[attr-defined]
                return True
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call) and node.attr not in _DATA_METHODS:
            called = node.value.func
            if isinstance(called, ast.Name) and called.id not in given and not hasattr(builtins, called.id):
                return True
    return False


def looks_at_arguments(tree: ast.Module) -> bool:
    """Whether the test is about a change in place: ``f(xs)`` for nothing, or for ``None``, then ``assert xs == ...``.

    Nowhere else may a candidate change what the test goes on with: emptying ``xs`` would pass ``f(xs) == sorted(xs)``.
    """
    given, compared = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(ast.Call() as call) | ast.Assert(
                ast.Compare(ast.Call() as call, [ast.Is() | ast.Eq()], [ast.Constant(None)])
            ):
                if isinstance(call.func, ast.Name) and not hasattr(builtins, call.func.id):
                    given |= {argument.id for argument in call.args if isinstance(argument, ast.Name)}
            case ast.Assert(ast.Compare(left, _, others)):
                compared |= {side.id for side in (left, *others) if isinstance(side, ast.Name)}
    return not given.isdisjoint(compared)


def _has_function(call: ast.Call) -> bool:
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(isinstance(node, ast.Lambda) for argument in arguments for node in ast.walk(argument))


def classes_in(*sources: str | None) -> tuple[str, ...]:
    """Names of the classes that these sources of the data set's (starter code, solution) define."""
    found = (re.findall(r"^class\s+(\w+)", source, re.MULTILINE) for source in sources if source)
    return tuple(sorted({name for names in found for name in names}))


def steps_of(tree: ast.Module) -> list[Step]:
    """Split a test into its steps, in order."""
    return [_step(statement) for statement in tree.body]


def _step(statement: ast.stmt) -> Step:
    if isinstance(statement, ast.Assert):
        step = Step()
        step.outside = ast.unparse(_Splitter(step).visit(statement.test))
        return step
    source = ast.unparse(statement)
    judges = any(isinstance(node, ast.Assert) for node in ast.walk(statement))
    return Step([source], weak=judges)  # an assert in a loop or a "with": all of it inside


class _Splitter(ast.NodeTransformer):
    """Leaves comparisons and plain functions outside; takes the largest expressions below them inside."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def visit(self, node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.expr)
        if _closed(node):
            return node
        if isinstance(node, ast.Compare) and self._between_objects(node):
            self._step.weak = True
            return self._inside(node)
        if isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.BinOp) or self._plain_call(node):
            for name, value in ast.iter_fields(node):
                setattr(node, name, self._visited(name, value))
            return node
        return self._inside(node)

    def _visited(self, name: str, value: object) -> object:
        if name in ("op", "ops", "func"):
            return value
        if isinstance(value, list):
            return [self.visit(item) for item in value]
        return self.visit(value) if isinstance(value, ast.expr) else value

    def _plain_call(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call) or node.keywords:
            return False
        if isinstance(node.func, ast.Name):
            return node.func.id in _OUTSIDE_CALLS | _CONTAINER_CALLS
        return isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "math.isclose"

    def _between_objects(self, node: ast.Compare) -> bool:
        """No side is known outside: whether they are equal is for the candidate's own classes to say."""
        return not any(_closed(side) or _plain_result(side) for side in (node.left, *node.comparators))

    def _inside(self, node: ast.expr) -> ast.expr:
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in _OPINIONS:
            self._step.weak = True
        self._step.inside.append(ast.unparse(node))
        return ast.Name(f"_value_{len(self._step.inside) - 1}", ast.Load())


def _plain_result(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _OUTSIDE_CALLS


def _closed(node: ast.expr) -> bool:
    """Whether the expression's value is known outside: no name in it but the built-in ones."""
    return all(hasattr(builtins, name) for name in _names(node))


def _names(node: ast.expr) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
