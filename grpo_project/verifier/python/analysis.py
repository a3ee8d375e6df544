"""What a test's source says about how it has to be judged. Never what a candidate does: that must not choose its judge.

Does the test hold objects of the program's? Is some comparison left to these objects, which makes it weak evidence?
Which arguments does it look at again after a call, to see what became of them? Which modules does it count on?
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from grpo_project.verifier.python.chance import asks_for_chance
from grpo_project.verifier.python.origins import Origins, mentions, place_of

IN_OUT, READ, MAIN = "__in_out__", "__read__", "__unittest_main__"
"""Names that ``instrumented`` puts into a test: for an argument that is looked at again, for ``type(x)`` and the like,
and for ``unittest.main``."""
_DATA_TYPES = (str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset)
DATA_METHODS = frozenset(name for kind in _DATA_TYPES for name in dir(kind) if not name.startswith("_"))
_READ_SPECIALLY = frozenset(["__class__", "__doc__", "__dict__", "__module__", "__annotations__"])
_UNSEEN = {
    "redirect_stdout": "what is printed",
    "redirect_stderr": "what is printed",
    "capsys": "what is printed",
    "capfd": "what is printed",
    "monkeypatch": "patches",
}
"""What happens in the program's process and can't be seen, or made, from outside."""


@dataclass(slots=True)
class Facts:
    """What is known of one test."""

    names: frozenset[str] = frozenset()
    """Names that only the program can define."""
    holds_objects: bool = False
    """It can't be judged by the plain values that functions return."""
    weak: bool = False
    inexpressible: str = ""
    """Why no program can be judged by it; empty where one can."""
    arguments: set[tuple[int, int]] = field(default_factory=set)
    """Line and column of arguments that the test looks at again."""


def classes_in(*sources: str | None) -> tuple[str, ...]:
    """Names of the classes that these sources of the data set's (starter code, solution) define."""
    found = (re.findall(r"^class\s+(\w+)", source, re.MULTILINE) for source in sources if source)
    return tuple(sorted({name for names in found for name in names}))


def facts_of(
    tree: ast.Module, classes: frozenset[str] | None, given: frozenset[str], entry: str | None = None
) -> Facts:
    """What is known of a test.

    ``classes``: those of the program's, ``None`` where no reference tells. ``given``: names that the data set's own
    code defines. ``entry``: the entry point, which the first parameter of a test's function ``check`` stands for.
    """
    bound = bound_names(tree) | given
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    names = {name for name in loaded if name not in bound and not hasattr(builtins, name)}
    own = set(names)
    possible = own | ({entry} if entry else set())
    classes = frozenset(filter(_looks_like_class, possible)) if classes is None else classes & possible
    if (candidate := _parameter_of_check(tree)) is not None:
        own.add(candidate)
        if entry in classes:
            classes |= {candidate}
    classes &= own
    facts = Facts(frozenset(names), inexpressible=_inexpressible(tree))
    if not classes and not facts.inexpressible and any(_asks_for_identity(node, own) for node in ast.walk(tree)):
        facts.inexpressible = "it asks whether two values are one object, and values are copies outside of the cage"
    if not facts.inexpressible and asks_for_chance(tree, own - classes):
        facts.inexpressible = "it asks that the same call returns something else each time, and here it has one answer"
    facts.holds_objects = bool(classes) or _needs_objects(tree, own)
    facts.weak = bool(classes) and Origins(tree, own, classes).weak()
    facts.arguments = set(_looked_at(tree, own, facts.holds_objects))
    return facts


def _looks_like_class(name: str) -> bool:
    return name[:1].isupper() and not name.isupper() and "_" not in name


def bound_names(tree: ast.AST) -> set[str]:
    """Names that the code itself binds: variables, functions, imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


def _parameter_of_check(tree: ast.Module) -> str | None:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check" and node.args.args:
            return node.args.args[0].arg
    return None


def _inexpressible(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        name = node.arg if isinstance(node, ast.arg) else name
        if name in _UNSEEN:
            return f"it needs {name}, and {_UNSEEN[name]} in the program's own process can't be reached"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("builtins."):
            return f"it replaces {node.value}, and built-in functions of the program's own process can't be reached"
    return ""


def _asks_for_identity(node: ast.AST, own: set[str]) -> bool:
    """``f(xs) is xs``"""
    match node:
        case ast.Compare(left, [ast.Is() | ast.IsNot()], [right]):
            called = any(isinstance(side, ast.Call) and _calls(side, own) for side in (left, right))
            return called and not any(isinstance(side, ast.Constant) for side in (left, right))
    return False


def _needs_objects(tree: ast.Module, own: set[str]) -> bool:
    """Whether something else is done with a name of the program's than to call it, or with a result than with data."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) if name in own and id(node) not in called:
                return True
            case ast.Attribute(value=ast.Call() as call, attr=attribute):
                if _calls(call, own) and attribute not in DATA_METHODS:
                    return True
            case ast.Call(func=ast.Call() as call) if _calls(call, own):
                return True
            case ast.Call(func=ast.Name(id="next")) | ast.withitem() if mentions(node, own):
                return True
            case ast.Await() | ast.Import(names=[ast.alias(name="asyncio")]):
                return True
    return False


def _calls(call: ast.Call, own: set[str]) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in own


def _content_mentions(node: ast.AST, names: set[str]) -> bool:
    """The same, but for how much is looked at: ``k = f(xs)``, then ``assert xs[:k] == [1, 2]``."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        return _content_mentions(node.value, names)
    if isinstance(node, ast.Name):
        return node.id in names
    return any(_content_mentions(part, names) for part in ast.iter_child_nodes(node))


def _looked_at(tree: ast.Module, own: set[str], methods: bool) -> Iterator[tuple[int, int]]:
    """Arguments, given by a variable's name, whose content a later statement compares with what the test knows.

    ``f(xs)``, whose result nobody takes, or ``assert f(xs) == [1, 3]``, and then ``assert xs == [1, 3]``. The side that
    ``xs`` is compared with must be the test's own. Nothing else may see what became of it: emptying ``xs`` would pass
    ``assert f(xs) == sorted(xs)``.
    """
    looks: dict[str, tuple[int, int]] = {}
    tainted = _from_the_program(tree, own)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert | ast.Expr):
            for name in _names_looked_at(node, own, tainted):
                looks[name] = max(looks.get(name, (0, 0)), (node.lineno, node.col_offset))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not _is_of_program(node, own, tainted, methods):
            continue
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(argument, ast.Name) and looks.get(argument.id, (0, 0)) > (node.lineno, node.col_offset):
                yield argument.lineno, argument.col_offset


def _is_of_program(call: ast.Call, own: set[str], tainted: set[str], methods: bool) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id in own
    if not methods or not isinstance(call.func, ast.Attribute):
        return False
    return mentions(call.func.value, own | tainted)


def _from_the_program(tree: ast.Module, own: set[str]) -> set[str]:
    """Variables that hold, or were made of, something that the program returned."""
    tainted: set[str] = set()
    for _ in range(4):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) or node.value is None:
                continue
            if mentions(node.value, own | tainted):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                tainted |= {name for target in targets if (name := place_of(target)) is not None}
    return tainted


def _names_looked_at(statement: ast.stmt, own: set[str], tainted: set[str]) -> Iterator[str]:
    """Variables that this statement checks, by something else than a call of the program's or what came of one."""
    if isinstance(statement, ast.Assert):
        checked: list[ast.expr] = [statement.test]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        method = statement.value.func
        if not (isinstance(method, ast.Attribute) and method.attr.startswith("assert")):
            return
        checked = list(statement.value.args)
    else:
        return
    if any(_content_mentions(part, own | tainted) for part in checked):
        return
    for part in checked:
        yield from (node.id for node in ast.walk(part) if isinstance(node, ast.Name))


class _WithoutImport(ast.NodeTransformer):
    """Names of the program's in place of what is imported from it."""

    def __init__(self, modules: set[str]) -> None:
        self._modules = modules
        self._aliases: set[str] = set()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        if node.module not in self._modules:
            return [node]
        renamed = [alias for alias in node.names if alias.asname not in (None, alias.name)]
        bound: list[ast.stmt] = [
            ast.Assign([ast.Name(str(alias.asname), ast.Store())], ast.Name(alias.name, ast.Load()))
            for alias in renamed
        ]
        return [ast.copy_location(statement, node) for statement in bound] or [ast.copy_location(ast.Pass(), node)]

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        self._aliases |= {alias.asname or alias.name for alias in node.names if alias.name in self._modules}
        node.names = [alias for alias in node.names if alias.name not in self._modules]
        return node if node.names else ast.copy_location(ast.Pass(), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in self._aliases:
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        return node


def without_import(tree: ast.Module, modules: set[str]) -> ast.Module:
    """The test as if it stood beside the program, which it imports by one of these names."""
    return ast.fix_missing_locations(_WithoutImport(modules).visit(tree))


def missing_module(tree: ast.Module) -> str | None:
    """A module that the test imports and that is not installed; one in a ``try`` may be."""
    tried = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Try) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in tried or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in named:
            if importlib.util.find_spec(name.split(".")[0] or "builtins") is None:
                return name
    return None


class _Instrument(ast.NodeTransformer):
    def __init__(self, arguments: set[tuple[int, int]]) -> None:
        self._arguments = arguments

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and (node.lineno, node.col_offset) in self._arguments:
            return _call_of(IN_OUT, node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load) and node.attr in _READ_SPECIALLY:
            return _call_of(READ, node.value, ast.Constant(node.attr))
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "type" and len(node.args) == 1 and not node.keywords:
            return _call_of(READ, node.args[0], ast.Constant("__class__"))
        if ast.unparse(node.func) == "unittest.main":
            node.func = ast.Name(MAIN, ast.Load())
        return node


def _call_of(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def instrumented(tree: ast.Module, facts: Facts) -> ast.Module:
    """The test with a mark on each argument that is looked at again, and what is read of an object asked inside."""
    return ast.fix_missing_locations(_Instrument(facts.arguments).visit(tree))
