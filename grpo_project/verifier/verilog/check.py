"""What runs in a caged child that reads Verilog: which names are nobody's, and what a module's ports are.

``pyslang`` is C++ that reads hostile text: whatever becomes of it, it happens to a caged process that knows no expected
value. Orders (marshal) and what comes back over the link (JSON of ``cage.values``):

    {"design": text}                              -> ["names", [name, ...]]
    {"module": name, "sources": [text, ...]}      -> ["interface", {...} or None]
"""

from __future__ import annotations

import marshal
import os
from typing import Any, NoReturn

from pyslang import ast, syntax

from grpo_project.verifier.cage import values, wire
from grpo_project.verifier.cage.wire import LINK

_UNRESOLVED = """UndeclaredIdentifier CouldNotResolveHierarchicalPath UnknownPackage UnknownPackageMember UnknownMember
    NotAHierarchicalScope InvalidScopeIndexExpression ScopeNotIndexable DotIntoInstArray InvalidHierarchicalIfacePath
    ScopeIndexOutOfRange TypoIdentifier UndeclaredButFoundPackage UnknownClassOrPackage"""


def warm_up() -> None:
    """Do once, in the zygote, what every child does."""
    foreign_names("module m(input a, output b); assign b = a; endmodule")


def run() -> NoReturn:
    try:
        wire.write(LINK, b"hello")  # carries this process's credentials, before any foreign text is read
        order = marshal.loads(wire.read(LINK) or b"")
        if "design" in order:
            record: list[Any] = ["names", foreign_names(order["design"])]
        else:
            record = ["interface", interface_of(order["module"], order["sources"])]
        wire.write(LINK, values.dumps(record))
    finally:
        os._exit(0)  # neither the zygote's loop nor its exit handlers are a child's to run


def compiled(sources: list[str]) -> Any:
    compilation = ast.Compilation()
    for source in sources:
        compilation.addSyntaxTree(syntax.SyntaxTree.fromText(source))
    return compilation


def foreign_names(design: str) -> list[str]:
    """Names that don't resolve where the design stands alone: they reach for something outside of it."""
    found: dict[str, None] = {}
    unresolved = set(_UNRESOLVED.split())
    for diagnostic in compiled([design]).getAllDiagnostics():
        if _code(diagnostic) in unresolved:
            found[str(next(iter(diagnostic.args), "?"))[:100]] = None
    return list(found)


def _code(diagnostic: Any) -> str:
    return str(diagnostic.code).removeprefix("DiagCode(").removesuffix(")")


def interface_of(module: str, sources: list[str]) -> dict[str, Any] | None:
    """The module's ports and overridden parameters as the bench instantiates it.

    ``None`` where there is no instance. ``instances`` counts them, ``roots`` names the modules at the top that hold
    one; a port that is no vector of bits has the direction ``other``.
    """
    compilation = compiled(sources)
    instances: list[Any] = []
    roots: dict[str, None] = {}

    def look(node: Any) -> Any:
        if isinstance(node, ast.InstanceSymbol) and node.definition.name == module:
            instances.append(node)
        return ast.VisitAction.Advance

    for top in compilation.getRoot().topInstances:
        before = len(instances)
        top.visit(look)
        if len(instances) > before:
            roots[str(top.name)] = None
    if not instances:
        return None
    body = instances[0].body
    parameters = [
        (str(item.name), str(item.value))
        for item in body.parameters
        if isinstance(item, ast.ParameterSymbol) and not item.isLocalParam and item.isOverridden
    ]
    ports = [_port(port) for port in body.portList]
    return {"ports": ports, "parameters": parameters, "instances": len(instances), "roots": list(roots)}


def _port(port: Any) -> tuple[str, int, str]:
    direction = {"In": "in", "Out": "out"}.get(str(port.direction).rsplit(".", 1)[-1], "other")
    if direction == "other" or not isinstance(port, ast.PortSymbol) or not port.type.isIntegral:
        return "other", 0, str(port.name)
    return direction, int(port.type.bitWidth), str(port.name)
