"""Can a program carry anything from one call to the next? A conservative check of its compiled code, in the cage.

A program that defines functions, imports from a few pure modules, and names nothing else that could remember (no
global, no attribute set, no class, no mutable default, no file, no clock) gives each call the same answer in any order.
Whatever this check does not know is taken as able to remember, and is run again in another order (``python.grader``).

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


def _numbers(names: str) -> bytes:
    return bytes(_OPCODES[name] for name in names.split() if name in _OPCODES)


_AT_MODULE_LEVEL = _numbers(_DEFINING)
_STORE_NAME, _IMPORTS = _OPCODES["STORE_NAME"], _numbers("IMPORT_NAME IMPORT_FROM")
_EXTENDED_ARG = _OPCODES["EXTENDED_ARG"]  # more names than one byte counts: none is known, so the program is not either
_IN_FUNCTIONS = bytes(set(range(256)) - set(_numbers(_REMEMBERING)))


def is_pure(module: CodeType) -> bool:
    """``module`` is a whole program, compiled. ``True`` only when no call can learn of an earlier one."""
    # Runs in every child, where each page that is written to has to be copied: no sets are built of what is known,
    # which would count references in names all over the heap.
    operations = module.co_code[::2]
    if operations.translate(None, _AT_MODULE_LEVEL):
        return False
    own = set() if _EXTENDED_ARG in operations else _own_names(module)
    return _known(module, own) and all([_harmless(code, own) for code in _functions(module)])


def _own_names(module: CodeType) -> set[str]:
    """What the module's own code defines and does not import."""
    code, names = module.co_code, module.co_names
    stored, imported = set(), set()
    for operation, argument in zip(code[::2], code[1::2], strict=True):
        if operation == _STORE_NAME:
            stored.add(names[argument])
        elif operation in _IMPORTS:
            imported.add(names[argument])
    return {name for name in stored - imported if name not in _TAKEN and not name.startswith("_")}


def _functions(code: CodeType) -> list[CodeType]:
    found = [constant for constant in code.co_consts if type(constant) is CodeType]
    return found + [inner for function in found for inner in _functions(function)]


def _known(code: CodeType, own: set[str]) -> bool:
    for name in code.co_names:  # noqa: SIM110 - a generator costs more than the few names that there are
        if name not in _SAFE and name not in own:
            return False
    return True


def _harmless(code: CodeType, own: set[str]) -> bool:
    return _known(code, own) and not code.co_code[::2].translate(None, _IN_FUNCTIONS)
