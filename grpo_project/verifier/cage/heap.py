"""The heap that a candidate finds: free memory at the same addresses, whatever its zygote did before, and wherever.

Objects without a hash of their own hash by their address, so the order of a set of them hangs on where the allocators
put them. ``kernel.fix_addresses`` takes the kernel's chance out. What is left is history: the length of paths, another
isolation level, the candidates before. It shows in the holes that earlier objects left and later ones fill. So once, in
the zygote, every hole is filled for good, and whatever comes then lies at addresses that are the same everywhere
(``settle``). In each child the little that the zygote's loop and the child's set-up have left open is filled as well,
before the program is read (``close``).

Python's small objects (up to 512 bytes) are blocks of 32 size classes, in pools of 16 KiB of one class each, in arenas
of 1 MiB (Objects/obmalloc.c, the same in 3.10 to 3.14). Larger ones are malloc's, whose caches are turned off in
zygotes (``TUNABLES``): without them what is freed joins what is free beside it, and leaves no trace.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

TUNABLES = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""Environment of a zygote; other C libraries ignore it."""
_BYTES_HEAD = 33
_SPARE, _SMALL_SPARE, _SMALL = 4, 32, 63
"""Blocks of each class that the zygote's own loop, and a child's set-up, have to themselves."""
_CLASSES = 1000
"""So many classes of their own programs have, before the list of ``object``'s subclasses grows again."""
_HELD, _SLOTS = 1 << 15, 250
"""How many blocks may be filled: in a zygote, and of each class in a child. An index above 256 would be an object."""
_BORDER = 1 << 34
"""Bytes. What is above a multiple of it is all taken, so that new mappings begin right below."""
_ROOM = 1 << 30
"""Bytes that may lie between the border and what was mapped before."""
_TOP = 1 << 24
"""Bytes. malloc goes on at a multiple of it."""
_PROT_NONE, _PRIVATE_ANONYMOUS_NORESERVE = 0, 0x4022
_M_MXFAST = 1
_PAGE = 4096

_border = 0
_filled: list[tuple[Callable[[int], Any], int, list[Any]]] = []
"""Of each size class how to make an object of it, and slots for those that fill its pools in a child."""
_held: list[Any] = []


def _makers() -> list[tuple[Callable[[int], Any], int]]:
    """For each size class something that makes an object of that size which no free list keeps.

    The class of the integers that addresses are is the first: looking at an address takes one of its blocks.
    """
    of_bytes = [(bytes, size - _BYTES_HEAD) for size in range(512, 47, -16)]
    return [(lambda n: complex(n, n), 1), *of_bytes, (lambda _: object(), 0)]


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()  # noqa: SIM905
    ]


def _declared() -> ctypes.CDLL:
    """The C library, with the functions that are used here."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.sbrk.argtypes, libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_long], [ctypes.c_size_t], [ctypes.c_void_p]
    libc.mallopt.argtypes = [ctypes.c_int] * 2
    if hasattr(libc, "mallinfo2"):
        libc.mallinfo2.restype = _Mallinfo
    return libc


_libc = _declared()


def settle() -> int:
    """Once, in the zygote, when everything that stays has been made. Returns the bytes of address space it took.

    Where memory is laid out in another way than it expects (another allocator, mappings that grow upwards) it changes
    nothing that matters, and programs that hang on addresses are not repeatable.
    """
    global _border
    _border, taken = _take_addresses()
    makers = _makers()
    _make_room_for_classes()
    _filled.extend((make, n, [None] * _SLOTS) for make, n in makers)
    blocks = [make(n) for make, n in makers for _ in range(2 * (_SPARE if n > _SMALL else _SMALL_SPARE))]
    spare = blocks[::2]  # with others in between, so that no pool comes to be free
    gc.collect()  # it empties the free lists
    _held.extend((blocks[1::2], spare, [None] * _HELD))
    del blocks
    if not _border or not _fill_all(makers, _held[2]):
        _filled.clear()
    more = _settle_malloc()
    gc.freeze()
    for index in range(len(spare)):  # not the list: it lies in malloc's part, where it would leave a hole
        spare[index] = None
    return taken + more


def _make_room_for_classes() -> None:
    """``object`` lists its subclasses: have the list grown now, else a program's own class would free the old one."""
    classes = [type("", (), {}) for _ in range(_CLASSES)]
    del classes


def _fill_all(makers: list[tuple[Callable[[int], Any], int]], slots: list[Any]) -> bool:
    """Fill the pools of each class, until its next block would be the first of a new pool; ``False`` if it never is."""
    index = 0
    for make, n in makers:
        while id(block := make(n)) > _border:
            if index == len(slots):
                return False
            slots[index] = block
            index += 1
        block = None  # its pool is nobody's again before the next class takes one
    return True


def close() -> None:
    """In a child, before its program is read: the same. It makes nothing that would be freed later."""
    gc.collect()
    for make, n, slots in _filled:
        index = 0
        while index < _SLOTS and id(block := make(n)) > _border:
            slots[index] = block
            index += 1
        block = None


def _take_addresses() -> tuple[int, int]:
    """Map all that is free above a border with nothing. Returns the border, and the bytes that were mapped."""

    def mapped(size: int) -> int:
        found = _libc.mmap(None, size, _PROT_NONE, _PRIVATE_ANONYMOUS_NORESERVE, -1, 0)
        return -1 if found == ctypes.c_void_p(-1).value else found

    first = mapped(_ROOM)
    if first < 0:
        return 0, 0
    _libc.munmap(first, _ROOM)
    border = first // _BORDER * _BORDER
    taken, size = 0, _BORDER
    while size >= _PAGE:
        found = mapped(size)
        if found >= border:
            taken += size
            continue
        if found >= 0:
            _libc.munmap(found, size)
        size //= 2
    next_one = mapped(_PAGE)
    _libc.munmap(next_one, _PAGE)
    return (border if next_one < border else 0), taken


def _settle_malloc() -> int:
    """Take all free chunks, then have malloc go on at an address that is the same everywhere. Returns bytes taken."""
    if not hasattr(_libc, "mallinfo2"):
        return 0  # not glibc 2.33
    _libc.mallopt(_M_MXFAST, 0)
    _take_chunks()
    rest = _libc.mallinfo2().keepcost
    _libc.malloc(max(rest - 64, 0))
    end = _libc.sbrk(0)
    taken = -end % _TOP + _TOP
    _libc.sbrk(taken)
    _libc.free(_libc.malloc(1 << 16))  # the first above
    _take_chunks()
    return taken


def _take_chunks() -> None:
    """malloc's chunks that are free, but the last, which can grow."""
    top = _libc.sbrk(0) - _libc.mallinfo2().keepcost
    for size in (*(1 << n for n in range(16, 9, -1)), *range(1008, 16, -16)):
        while (found := _libc.malloc(size - 8)) and found < top:
            pass
        _libc.free(found)
