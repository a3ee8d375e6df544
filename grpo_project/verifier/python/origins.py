"""Where the values of a test come from, as its source tells: what the test knows, or what the program may decide."""

from __future__ import annotations

import ast
import builtins
from enum import IntEnum

_PLAIN_CALLS = frozenset(
    [
        "bool",
        "bytes",
        "float",
        "format",
        "hasattr",
        "hash",
        "id",
        "int",
        "isinstance",
        "issubclass",
        "len",
        "ord",
        "repr",
        "str",
    ]
)
_OPINIONS = frozenset(("callable", "hasattr", "isinstance", "issubclass"))


class Origin(IntEnum):
    """Where a value comes from, the most harmless first. Of several, the worst counts."""

    KNOWN = 0
    """The test's own, or of a type that no object of the program's has: what it is, is decided outside."""
    UNKNOWN = 1
    """From the program: a plain value where the program is right."""
    DERIVED = 2
    """Made by arithmetic with an object: an object or a plain value."""
    OBJECT = 3
    """An object of one of the program's classes."""


class Origins:
    """Origins of a test's values, by name, without regard to order and scope."""

    def __init__(self, tree: ast.Module, own: set[str], classes: frozenset[str]) -> None:
        self._tree = tree
        self._own = own
        self._classes = classes
        self._functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        self._bound: dict[str, Origin] = {}
        for _ in range(8):  # each pass follows values one step further; what still moves then is the worst
            before = dict(self._bound)
            for node in ast.walk(tree):
                self._bind_all(node)
            if self._bound == before:
                break

    def weak(self) -> bool:
        return any(self._left_to_objects(node) for node in ast.walk(self._tree))

    def _bind_all(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets, value):
                for target in targets:
                    self._bind(target, self.of(value))
            case ast.AnnAssign(target, _, ast.expr() as value) | ast.NamedExpr(target, value):
                self._bind(target, self.of(value))
            case ast.AugAssign(target, _, value):
                self._bind(target, self.of(ast.BinOp(target, node.op, value)))
            case ast.For(target, items) | ast.comprehension(target, items):
                self._bind(target, self._item(items))
            case ast.withitem(value, ast.expr() as target):
                self._bind(target, self.of(value))
            case ast.Call(ast.Name(name), arguments) if name in self._functions:
                for parameter, argument in zip(self._functions[name].args.args, arguments, strict=False):
                    self._bind(ast.Name(parameter.arg), self.of(argument))
            case ast.FunctionDef():
                self._bind(ast.Name(node.name), Origin.KNOWN)
            case ast.ClassDef():
                self._bind(ast.Name(node.name), Origin.KNOWN)
            case ast.Import(names) | ast.ImportFrom(_, names):
                for alias in names:
                    self._bind(ast.Name((alias.asname or alias.name).split(".")[0]), Origin.KNOWN)

    def _item(self, items: ast.expr) -> Origin:
        origin = self.of(items)
        written_out = isinstance(items, ast.List | ast.Tuple | ast.Set)
        return origin if origin is Origin.KNOWN or written_out else Origin.UNKNOWN

    def _bind(self, target: ast.expr, origin: Origin) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._bind(part, origin)
        elif (name := place_of(target)) is not None:
            self._bound[name] = max(origin, self._bound.get(name, Origin.KNOWN))

    def of(self, node: ast.expr) -> Origin:
        match node:
            case ast.Constant() | ast.Compare() | ast.JoinedStr() | ast.UnaryOp(ast.Not()):
                return Origin.KNOWN
            case ast.Name(name):
                if name in self._bound:
                    return self._bound[name]
                return Origin.KNOWN if hasattr(builtins, name) else Origin.UNKNOWN
            case ast.Attribute(value) | ast.Subscript(value):
                place = place_of(node) or ""
                for name in (place, place.removeprefix("self.")):  # the latter: an attribute of the test's class
                    if place and name in self._bound:
                        return self._bound[name]
                return Origin.KNOWN if self.of(value) is Origin.KNOWN else Origin.UNKNOWN
            case ast.Call():
                return self._of_call(node)
            case ast.BinOp(left, _, right):
                worst = max(self.of(left), self.of(right))
                return Origin.DERIVED if worst > Origin.UNKNOWN else worst
            case ast.Lambda():
                return Origin.KNOWN
            case ast.ListComp(element) | ast.SetComp(element) | ast.GeneratorExp(element):
                return self.of(element)
        parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        return max(map(self.of, parts), default=Origin.KNOWN)

    def _of_call(self, call: ast.Call) -> Origin:
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        of_arguments = max(map(self.of, arguments), default=Origin.KNOWN)
        if isinstance(call.func, ast.Name):
            name = call.func.id
            if name in self._classes:
                return Origin.OBJECT
            if name in _PLAIN_CALLS:
                return Origin.KNOWN
            if name in self._functions and mentions(self._functions[name], self._own):
                return Origin.UNKNOWN
        elif isinstance(call.func, ast.Attribute) and call.func.attr == "assertRaises":
            return Origin.KNOWN
        known = self.of(call.func) is Origin.KNOWN and of_arguments is Origin.KNOWN
        return Origin.KNOWN if known else Origin.UNKNOWN

    def _left_to_objects(self, node: ast.AST) -> bool:
        """Whether this part of a test asks an object of the program's whether the program is right."""
        match node:
            case ast.Compare(left, operators, others):
                sides = [left, *others]
                return any(map(self._compared, operators, sides, sides[1:]))
            case ast.BinOp(left, _, right):
                origins = {self.of(left), self.of(right)}
                return Origin.DERIVED in origins and Origin.KNOWN in origins
            case ast.Call(ast.Name(name), arguments) if name in _OPINIONS and name not in self._bound:
                if name in ("isinstance", "issubclass") and len(arguments) == 2:
                    return self.of(arguments[1]) is not Origin.KNOWN
                return max(map(self.of, arguments), default=Origin.KNOWN) is not Origin.KNOWN
            case ast.Call(ast.Attribute(_, method), [first, second, *_]) if method.startswith("assert"):
                if "Raises" in method or "Warns" in method:
                    return False
                if "IsInstance" in method or method in ("assertIsInstance", "assertNotIsInstance"):
                    return self.of(second) is not Origin.KNOWN
                return self._compared(ast.In() if method.endswith("In") else ast.Eq(), first, second)
        return False

    def _compared(self, operator: ast.cmpop, left: ast.expr, right: ast.expr) -> bool:
        first, second = self.of(left), self.of(right)
        if isinstance(operator, ast.Is | ast.IsNot):
            return False
        if isinstance(operator, ast.In | ast.NotIn):
            return first is Origin.OBJECT
        return Origin.OBJECT in (first, second) or min(first, second) > Origin.KNOWN


def place_of(node: ast.expr) -> str | None:
    """What a value is bound to: a name, or an attribute of ``self``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
        return f"self.{node.attr}"
    return None


def mentions(node: ast.AST, names: set[str] | frozenset[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))
