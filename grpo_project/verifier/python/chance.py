"""Does a test ask that a function returns something else each time? The same call has one answer here."""

from __future__ import annotations

import ast
from collections.abc import Callable

Meaning = Callable[[ast.expr], ast.expr]


def asks_for_chance(tree: ast.Module, own: set[str]) -> bool:
    """``f() != f()``, or ``len({f() for _ in range(20)}) > 1``, also by a variable. ``own``: names of the program's."""
    bound = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def meant(node: ast.expr) -> ast.expr:
        return bound.get(node.id, node) if isinstance(node, ast.Name) else node

    for node in ast.walk(tree):
        match node:
            case ast.Compare(left, [ast.NotEq()], [right]) | ast.Call(
                ast.Attribute(attr="assertNotEqual"), [left, right]
            ):
                left, right = meant(left), meant(right)
                if left is not right and _is_call(left, own) and ast.dump(left) == ast.dump(right):
                    return True
        match node:
            case ast.Compare(ast.Call(ast.Name("len"), [several]), [op], [ast.Constant(int() as count)]):
                if _more_than_one(op, count) and _repeats(meant(several), own, meant):
                    return True
            case ast.Call(ast.Attribute(attr="assertGreater"), [ast.Call(ast.Name("len"), [several]), ast.Constant(1)]):
                if _repeats(meant(several), own, meant):
                    return True
    return False


def _is_call(node: ast.expr, own: set[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in own


def _more_than_one(op: ast.cmpop, count: int) -> bool:
    return (
        (isinstance(op, ast.Gt) and count >= 1)
        or (isinstance(op, ast.GtE) and count >= 2)
        or (isinstance(op, ast.NotEq) and count == 1)
    )


def _repeats(several: ast.expr, own: set[str], meant: Meaning) -> bool:
    """A set of what one and the same call returns, several times."""
    match several:
        case ast.Call(ast.Name("set" | "frozenset"), [items]):
            several = meant(items)
            if not isinstance(several, ast.ListComp | ast.GeneratorExp | ast.SetComp):
                return False
        case ast.SetComp():
            pass
        case _:
            return False
    targets = {name.id for part in several.generators for name in ast.walk(part.target) if isinstance(name, ast.Name)}
    used = {name.id for name in ast.walk(several.elt) if isinstance(name, ast.Name)}
    return not targets & used and any(
        _is_call(part, own) for part in ast.walk(several.elt) if isinstance(part, ast.expr)
    )
