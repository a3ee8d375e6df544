"""Random numbers of completions: a stream for each, from a key that says which completion it is.

A token's number depends on the completion's key and the token's place alone, by a counter-based hash (SplitMix64:
Steele, Lea and Flood, OOPSLA 2014). So it does not matter which rank samples a completion, which others share its
batch, or when they leave it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_BITS_64 = (1 << 64) - 1


def completion_key(purpose: str, seed: int, step: int, place: int, sample: int) -> int:
    """The key of a completion, 64 bits: the ``sample``-th of the ``place``-th problem at an optimizer step.

    ``purpose`` keeps training and evaluation apart, which would share numbers otherwise.
    """
    digest = hashlib.blake2b(f"{purpose}:{seed}:{step}:{place}:{sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def uniforms(keys: Sequence[int], first: int, count: int) -> np.ndarray:
    """Numbers in [0, 1), (len(keys), count), of the tokens ``first``, ``first + 1``, ... of each completion."""
    steps = [(_GOLDEN * (first + place + 1)) & _BITS_64 for place in range(count)]
    bits = np.asarray(keys, dtype=np.uint64)[:, None] + np.asarray(steps, dtype=np.uint64)[None, :]  # wraps around
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)) * 2.0**-53
