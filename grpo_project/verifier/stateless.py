"""Can a program carry anything from one call to the next? A conservative check of its compiled code, in the cage.

A program that defines functions, imports from a few pure modules, and names nothing else that could remember (no
global, no attribute set, no class, no mutable default, no file, no clock) gives each call the same answer in any order.
Whatever this check does not know is taken as able to remember, and is run a second time in another order (``exam``).

It looks at opcodes and names only, before the first line of the program has run: about 30 µs.
"""

from __future__ import annotations

import collections
import functools
import heapq
import itertools
import math
import opcode
import operator
import re
import string
import types
import typing
from types import CodeType

_DATA = (str, bytes, list, tuple, dict, set, frozenset, int, float, complex, range, slice)
_CONTAINERS = (collections.deque, collections.Counter, collections.OrderedDict, collections.defaultdict)
_MODULES = "bisect collections copy functools heapq itertools math operator re string typing"
_BUILTINS = """abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float format
    frozenset int isinstance issubclass iter len list map max min next oct ord pow print range repr reversed
    round set slice sorted str sum tuple type zip ArithmeticError AssertionError Exception IndexError KeyError
    LookupError NotImplementedError OverflowError RecursionError RuntimeError StopIteration TypeError ValueError
    ZeroDivisionError"""
_FROM_MODULES = """reduce cmp_to_key partial deepcopy copy compile findall finditer fullmatch match search split sub
    subn escape Match Pattern IGNORECASE MULTILINE DOTALL VERBOSE I M S X group groups groupdict start end span deque
    Counter OrderedDict defaultdict namedtuple itemgetter ascii_letters ascii_lowercase ascii_uppercase
    digits hexdigits octdigits punctuation whitespace printable Any Callable Deque Dict Generator Iterable Iterator
    List Literal Mapping Optional Sequence Set Tuple Type Union bisect bisect_left bisect_right insort
    insort_left insort_right numerator denominator real imag add and_ concat contains eq floordiv ge gt invert
    le lt mod mul ne neg not_ or_ pos sub truediv xor"""


def _public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


_SAFE = frozenset(
    set(_BUILTINS.split())
    | set(_FROM_MODULES.split())
    | set(_MODULES.split())
    | {name for kind in (*_DATA, *_CONTAINERS) for name in _public(kind)}
    | {name for module in (math, itertools, heapq) for name in _public(module)}
)
# What a program's own function must not be called: the name would then count as known wherever it stands for another's.
_SPECIAL = (types.FunctionType, types.GeneratorType, types.FrameType, types.CodeType, types.TracebackType)
_OTHERS = (types.CoroutineType, types.ModuleType, functools, operator, string, typing, re, collections, __builtins__)
_TAKEN = frozenset(name for thing in (*_SPECIAL, *_OTHERS) for name in (thing if type(thing) is dict else dir(thing)))

_OPCODES = opcode.opmap
# Imports, function definitions and immutable constants, in the words of Python 3.11 to 3.14.
_DEFINING = """CACHE NOP RESUME EXTENDED_ARG POP_TOP LOAD_CONST LOAD_SMALL_INT LOAD_NAME STORE_NAME LOAD_ATTR
    IMPORT_NAME
    IMPORT_FROM MAKE_FUNCTION SET_FUNCTION_ATTRIBUTE BUILD_TUPLE BINARY_SUBSCR BINARY_OP UNARY_NEGATIVE COPY
    SWAP RETURN_VALUE RETURN_CONST"""
_REMEMBERING = (
    """STORE_GLOBAL DELETE_GLOBAL STORE_NAME DELETE_NAME STORE_ATTR DELETE_ATTR LOAD_BUILD_CLASS IMPORT_STAR"""
)


def _numbers(names: str) -> frozenset[int]:
    return frozenset(_OPCODES[name] for name in names.split() if name in _OPCODES)


_AT_MODULE_LEVEL, _NOT_IN_FUNCTIONS = _numbers(_DEFINING), _numbers(_REMEMBERING)


def stateless(module: CodeType) -> bool:
    """``module`` is a whole program, compiled. ``True`` only when no call can learn of an earlier one."""
    if not _AT_MODULE_LEVEL.issuperset(module.co_code[::2]):
        return False
    stored, imported = _named(module, "STORE_NAME"), _named(module, "IMPORT_NAME", "IMPORT_FROM")
    own = {name for name in stored - imported if name not in _TAKEN and not name.startswith("_")}
    known = _SAFE | own
    return known.issuperset(module.co_names) and all(_harmless(code, known) for code in _functions(module))


def _named(module: CodeType, *operations: str) -> set[str]:
    """The names that these operations of the module's own code are about."""
    code, wanted = module.co_code, {_OPCODES[name] for name in operations}
    if _OPCODES["EXTENDED_ARG"] in code[::2]:
        return set()  # more names than one byte counts: none is known, so the program is not known either
    return {module.co_names[code[i + 1]] for i in range(0, len(code), 2) if code[i] in wanted}


def _functions(code: CodeType) -> list[CodeType]:
    found = [constant for constant in code.co_consts if type(constant) is CodeType]
    return found + [inner for function in found for inner in _functions(function)]


def _harmless(code: CodeType, known: frozenset[str]) -> bool:
    return known.issuperset(code.co_names) and _NOT_IN_FUNCTIONS.isdisjoint(code.co_code[::2])
