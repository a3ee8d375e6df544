"""The modules that programs import most, loaded once in the zygote instead of in every child.

``random`` would have itself seeded after every fork, which takes half as long as the fork: a child seeds it where its
program has the word in it.
"""

import bisect  # noqa: F401
import collections  # noqa: F401
import copy  # noqa: F401
import functools  # noqa: F401
import heapq  # noqa: F401
import itertools  # noqa: F401
import json  # noqa: F401
import math  # noqa: F401
import operator  # noqa: F401
import os
import re  # noqa: F401
import string  # noqa: F401
import typing  # noqa: F401

_register_at_fork, os.register_at_fork = os.register_at_fork, lambda **_: None
import random  # noqa: E402, F401

os.register_at_fork = _register_at_fork
