"""Programs that try to be paid for nothing, or to break out. Each defines ``clip`` or pretends to."""

SOLVES_NOTHING = {
    "exit": """\
import sys
def clip(*a):
    sys.exit(0)
""",
    "exit while loading": """\
import sys
sys.exit(0)
""",
    "os._exit": """\
import os
def clip(*a):
    os._exit(0)
""",
    "os._exit while loading": """\
import os
os._exit(0)
""",
    "SystemExit": """\
def clip(*a):
    raise SystemExit(0)
""",
    "KeyboardInterrupt": """\
def clip(*a):
    raise KeyboardInterrupt
""",
    "AssertionError": """\
def clip(*a):
    raise AssertionError
""",
    "StopIteration": """\
def clip(*a):
    raise StopIteration
""",
    "an exception that lies": """\
class E(Exception):
    __str__ = lambda self: 1 / 0
def clip(*a):
    raise E
""",
    "always equal object": """\
class Sly(object):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda self, *other: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = __radd__ = __neg__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __round__ = lambda self, *digits: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args: self

def clip(x, lo, hi):
    return Sly()
""",
    "always equal list": """\
class Sly(list):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda self, *other: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = __radd__ = __neg__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __round__ = lambda self, *digits: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args: self

def clip(x, lo, hi):
    return Sly()
""",
    "always equal int": """\
class Sly(int):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda self, *other: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = __radd__ = __neg__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __round__ = lambda self, *digits: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args: self

def clip(x, lo, hi):
    return Sly(77)
""",
    "always equal str": """\
class Sly(str):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda self, *other: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = __radd__ = __neg__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __round__ = lambda self, *digits: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args: self

def clip(x, lo, hi):
    return Sly('77')
""",
    "always equal float": """\
class Sly(float):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda self, *other: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = __radd__ = __neg__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __round__ = lambda self, *digits: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args: self

def clip(x, lo, hi):
    return Sly(77.5)
""",
    "always equal tuple": """\
class Sly(tuple):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda self, *other: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = __radd__ = __neg__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __round__ = lambda self, *digits: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args: self

def clip(x, lo, hi):
    return Sly()
""",
    "always equal dict": """\
class Sly(dict):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda self, *other: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = __radd__ = __neg__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __round__ = lambda self, *digits: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args: self

def clip(x, lo, hi):
    return Sly()
""",
    "always equal in a list": """\
class Sly(object):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = lambda self, *other: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = __radd__ = __neg__ = lambda self, *other: self
    __float__ = lambda self: 0.0
    __round__ = lambda self, *digits: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args: self

def clip(x, lo, hi):
    return [Sly()]
""",
    "a class that pretends to be int": """\
class S:
    __class__ = int
    __eq__ = lambda a, b: True
def clip(*a):
    return S()
""",
    "metaclass": """\
class M(type):
    __eq__ = lambda a, b: True
    __hash__ = lambda a: 0
class S(metaclass=M): pass
def clip(*a):
    return S
""",
    "frame walk": """\
import sys, gc
def clip(*a):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            if type(value) is dict and 'expected' in value: return value['expected']
        frame = frame.f_back
    for thing in gc.get_objects():
        if type(thing).__name__ == 'CallTest': return thing.expected
""",
    "proc walk": """\
import glob
def clip(*a):
    found = []
    for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/mem'):
        found.append(open(path, 'rb').read(100))
    return found
""",
    "forged records while loading": """\
import os, socket, struct, json
def frame(record):
    text = json.dumps(record).encode()
    return struct.pack("!I", len(text)) + text
def flood():
    for record in [["loaded", ["clip"]]] + [["value", v] for v in (9, 9, 9)]:
        for number in range(3, 64):
            try:
                os.write(number, frame(record))
            except OSError:
                pass
flood()
""",
    "forged records of garbage": """\
import os, socket, struct, json
def frame(record):
    text = json.dumps(record).encode()
    return struct.pack("!I", len(text)) + text
def flood():
    for record in [["value"], ["raised"], [], {}, 3, "value", ["passed"]]:
        for number in range(3, 64):
            try:
                os.write(number, frame(record))
            except OSError:
                pass
def clip(*a):
    flood()
    return 9
""",
    "forged verdicts": """\
import os, socket, struct, json
def frame(record):
    text = json.dumps(record).encode()
    return struct.pack("!I", len(text)) + text
def flood():
    for record in [["passed"], {"status": "passed"}, [["passed"] * 3], ["judged", [0, [["passed"]], 0, 0]]]:
        for number in range(3, 64):
            try:
                os.write(number, frame(record))
            except OSError:
                pass
def clip(*a):
    flood()
""",
    "half a record": """\
import os
def clip(*a):
    os.write(3, b'\\x00\\x00\\x00\\xff123')
    os._exit(0)
""",
    "a huge announced record": """\
import os
def clip(*a):
    os.write(3, b'\\xff\\xff\\xff\\xff')
    os._exit(0)
""",
    "closed link": """\
import os
def clip(*a):
    os.closerange(0, 64)
    import time
    time.sleep(60)
""",
    "patched encoder": """\
import sys
for name, module in list(sys.modules.items()):
    for key in list(vars(module) or ()):
        if key in ('dumps', 'send', '_report'):
            setattr(module, key, lambda *a, **k: b'["value", 3]')
def clip(*a):
    return 1
""",
    "patched builtins": """\
import builtins
builtins.abs = builtins.all = lambda *a: 0
builtins.len = lambda a: 0
builtins.isinstance = lambda *a: True
builtins.print = lambda *a: None
builtins.AssertionError = ValueError
def clip(*a):
    return 77
""",
    "patched library": """\
import json, math, time, unittest, random
json.dumps = json.loads = lambda *a, **k: True
math.isclose = lambda *a, **k: True
time.time = lambda: 0
unittest.TestCase.assertEqual = lambda *a: None
def clip(*a):
    return 77
""",
    "deep value": """\
def clip(*a):
    value = []
    for _ in range(100000):
        value = [value]
    return value
""",
    "cyclic value": """\
def clip(*a):
    value = []
    value.append(value)
    return value
""",
    "huge value": """\
def clip(*a):
    return 'x' * 50_000_000
""",
    "huge integer": """\
def clip(*a):
    return 1 << 10_000_000
""",
    "wide value": """\
def clip(*a):
    return list(range(10_000_000))
""",
    "NaN": """\
def clip(*a):
    return float('nan')
""",
    "infinity": """\
def clip(*a):
    return float('inf')
""",
    "endless iterator": """\
import itertools
def clip(*a):
    return itertools.count()
""",
    "generator": """\
def clip(*a):
    yield from (3, 1, 0)
""",
    "surrogates": """\
def clip(*a):
    return '\\ud800' * 100
""",
    "colliding keys": """\
def clip(*a):
    return {i * (2**61 - 1): 0 for i in range(1, 50_000)}
""",
    "unprintable": """\
class S:
    def __repr__(self):
        raise SystemExit
def clip(*a):
    return S()
""",
    "deep tags by hand": """\
import os, socket, struct, json
def frame(record):
    text = json.dumps(record).encode()
    return struct.pack("!I", len(text)) + text
def flood():
    for record in []:
        for number in range(3, 64):
            try:
                os.write(number, frame(record))
            except OSError:
                pass
def clip(*a):
    text = b'["value",' + b'{"t":[' * 5000 + b']}' * 5000 + b']'
    os.write(3, struct.pack('!I', len(text)) + text)
    os._exit(0)
""",
    "signalling NaN": """\
from decimal import Decimal
def clip(*a):
    return Decimal("sNaN")
""",
    "colliding keys by hand": """\
import os, struct
def clip(*a):
    keys = ",".join(f"[{number * (2**61 - 1)},0]" for number in range(1, 300_000))
    text = ('["value",{"d":[' + keys + ']}]').encode()
    data = struct.pack("!I", len(text)) + text
    while data:
        data = data[os.write(3, data):]
    os._exit(0)
""",
    "endless records": """\
import os
def clip(*a):
    while True:
        os.write(3, b"\\0\\0\\0\\1" * 100_000)
""",
    "no function": """\
clip = 3
""",
    "nothing": """\
def clip(*a):
    pass
""",
    "deleted": """\
def clip(*a):
    pass
del clip
""",
    "code that does not compile": """\
def clip(:
""",
    "null bytes": """\
def clip(x):
    return 3
\0
""",
    "too deep to compile": """\
def clip(*a):
    return """
    + "(" * 5000
    + ")" * 5000
    + "\n",
    "long chain": """\
def clip(*a):
    return """
    + "-" * 50_000
    + "1\n",
}

DISRUPTIVE = {
    "drips a record that never ends": """\
import os, time
def clip(*a):
    os.write(3, b"\\x00\\x10\\x00\\x00")
    while True:
        os.write(3, b"x")
        time.sleep(0.01)
""",
    "drips records while it loops": """\
import os, time
def clip(*a):
    while True:
        os.write(3, b"\\x00\\x00\\x00\\x0b[\\"value\\",9]")
        for _ in range(300_000): pass
""",
    "closes its link and stays": """\
import os
def clip(*a):
    os.write(3, b"\\x00\\x00\\x00\\x0b[\\"value\\",9]" * 3)
    os.close(3)
    while True: pass
""",
    "answers everything and stays": """\
import os
def clip(*a):
    os.write(3, b"\\x00\\x00\\x00\\x0b[\\"value\\",9]" * 3)
    while True: pass
""",
    "a descendant keeps the link": """\
import os, time
try:
    if os.fork() == 0:
        time.sleep(300)
except OSError:
    pass
def clip(*a):
    return 9
""",
    "a descendant answers": """\
import os, time
try:
    if os.fork() == 0:
        while True:
            os.write(3, b"\\x00\\x00\\x00\\x0b[\\"value\\",9]" * 20)
except OSError:
    pass
def clip(*a):
    time.sleep(0.05)
    return 8
""",
    "endless loop": """\
def clip(*a):
    while True: pass
""",
    "endless loop while loading": """\
while True: pass
""",
    "catches everything": """\
def clip(*a):
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
    "ignores signals": """\
import signal
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
def clip(*a):
    while True: pass
""",
    "memory": """\
def clip(*a):
    kept = []
    while True: kept.append(bytearray(1 << 24))
""",
    "memory kept": """\
kept = []
def clip(*a):
    try:
        while True: kept.append(bytearray(1 << 22))
    except MemoryError: pass
    return 9
""",
    "recursion": """\
import sys
sys.setrecursionlimit(10**9)
def clip(*a):
    return clip(*a)
""",
    "stack overflow": """\
import sys
sys.setrecursionlimit(10**9)
def clip(*a):
    class A:
        def __getattr__(s, n): return getattr(s, n)
    return A().x
""",
    "segfault": """\
import ctypes
def clip(*a):
    ctypes.string_at(0)
""",
    "abort": """\
import os
def clip(*a):
    os.abort()
""",
    "kill self": """\
import os
def clip(*a):
    os.kill(os.getpid(), 9)
""",
    "kill all": """\
import os
def clip(*a):
    for pid in (-1, 0, 1, os.getppid()):
        for n in (9, 15, 2, 19):
            try: os.kill(pid, n)
            except OSError: pass
    while True: pass
""",
    "stop self": """\
import os, signal
def clip(*a):
    os.kill(os.getpid(), signal.SIGSTOP)
""",
    "fork bomb": """\
import os
def clip(*a):
    while True:
        try: os.fork()
        except OSError: pass
""",
    "thread bomb": """\
import threading, time
threading.stack_size(32768)
def clip(*a):
    while True:
        try: threading.Thread(target=time.sleep, args=(60,)).start()
        except RuntimeError: pass
""",
    "daemon": """\
import os, time
def clip(*a):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(300)
        os._exit(0)
    return 9
""",
    "atexit and __del__": """\
import atexit
def loop():
    while True: pass
atexit.register(loop)
class D:
    def __del__(self): loop()
d = D()
def clip(*a):
    raise SystemExit
""",
    "much output": """\
import sys, os
def clip(*a):
    for _ in range(1000):
        os.write(1, b'x' * 1000000)
        os.write(2, b'x' * 1000000)
    return 9
""",
    "big file": """\
def clip(*a):
    with open('/tmp/big', 'wb') as file:
        while True: file.write(b'x' * (1 << 20))
""",
    "many files": """\
import os
def clip(*a):
    number = 0
    while True:
        number += 1
        open(f'/tmp/{number}', 'w').write('x' * 100000)
""",
    "files left": """\
import os
for number in range(50):
    os.makedirs('/tmp/' + 'd/' * number, exist_ok=True)
def clip(*a):
    return 9
""",
    "descriptors": """\
import os
def clip(*a):
    while True: os.pipe()
""",
    "memfd": """\
import os
def clip(*a):
    while True:
        number = os.memfd_create('x')
        os.write(number, b'x' * (1 << 20))
""",
    "sockets": """\
import socket
def clip(*a):
    s = socket.socket()
    s.connect(('127.0.0.1', 22))
    return 9
""",
    "ptrace and limits": """\
import ctypes, os, resource
def clip(*a):
    libc = ctypes.CDLL(None)
    for pid in (1, os.getppid()):
        libc.ptrace(16, pid, 0, 0)
        try: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0))
        except (OSError, PermissionError): pass
    return 9
""",
    "lowered limits": """\
import resource
for n in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
    resource.setrlimit(n, (0, 0))
def clip(*a):
    return 9
""",
    "exec": """\
import os, sys
def clip(*a):
    os.execv(sys.executable, [sys.executable, '-c', 'print(3)'])
""",
    "namespaces again": """\
import ctypes
def clip(*a):
    return [ctypes.CDLL(None).unshare(flag) for flag in (0x10000000, 0x20000)] and 9
""",
    "locked folder": """\
import os
os.chmod("/tmp", 0)
def clip(*a):
    return 9
""",
    "signals by a descriptor": """\
import fcntl, os, signal, socket
def clip(*a):
    one, two = socket.socketpair()
    for pid in (1, os.getppid()):
        fcntl.fcntl(one, 10, signal.SIGKILL)
        fcntl.fcntl(one, fcntl.F_SETOWN, pid)
        fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)
        two.send(b"x")
    return 9
""",
    "fork and memory": """\
import os
def clip(*a):
    while True:
        try:
            os.fork()
        except OSError:
            break
    kept = []
    while True:
        kept.append(bytearray(1 << 22))
""",
    "closed control": """\
import os
os.closerange(0, 1024)
def clip(*a):
    return 9
""",
    "sleeps": """\
import time
def clip(*a):
    time.sleep(1000)
""",
    "writes the library": """\
import os, json
def clip(*a):
    open(json.__file__, 'w').write('boom')
""",
    "lingering threads": """\
import threading
def spin():
    while True: pass
for _ in range(8):
    threading.Thread(target=spin, daemon=True).start()
def clip(*a):
    return 9
""",
}

ALWAYS_EQUAL = """\
class E:
    __hash__ = lambda s: 0
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda s, o: True
    __ne__ = lambda s, o: False
    __bool__ = lambda s: True
    __sub__ = __rsub__ = __add__ = __abs__ = __round__ = lambda s, *o: 0.0
    __getattr__ = lambda s, n: E()
    __call__ = lambda s, *a, **k: E()
    __str__ = __repr__ = lambda s: '3'
    __len__ = lambda s: 0
"""
STACKS_THAT_HOLD_NOTHING = {
    "always equal": ALWAYS_EQUAL
    + """\
class Stack:
    push = lambda s, x: None
    pop = lambda s: E()
    items = E()
""",
    "empty class": "class Stack:\n    pass\n",
    "always equal class": ALWAYS_EQUAL + "Stack = E\n",
    "metaclass": ALWAYS_EQUAL
    + """\
class M(type):
    __eq__ = __instancecheck__ = __subclasscheck__ = lambda s, o: True
    __hash__ = lambda s: 0
    __call__ = lambda s, *a: E()
class Stack(metaclass=M):
    pass
""",
    "patched test library": """\
import unittest
for name in dir(unittest.TestCase):
    if name.startswith('assert'):
        setattr(unittest.TestCase, name, lambda *a, **k: None)
unittest.TestResult.wasSuccessful = lambda s: True
class Stack:
    push = pop = lambda s, *a: None
    items = ()
""",
    "endless items": """\
class Stack:
    push = lambda s, x: None
    pop = lambda s: iter(int, 1)
    items = iter(int, 1)
""",
    "objects without end": """\
class Stack:
    push = lambda s, x: None
    pop = lambda s: [object() for _ in range(120_000)]
    items = ()
""",
    "forged handles": """\
import json, os, struct
def put(record):
    data = json.dumps(record).encode()
    data = struct.pack('!I', len(data)) + data
    while data:
        data = data[os.write(3, data):]
put(['loaded', True])
for number in (1, 2, 7, 10**30):
    put(['value', {'h': [number, 'class', [['Stack', number]]]}, []])
    put(['value', {'l': number}, []])
    put(['value', {'h': [number, 'exception', [['AssertionError', 0]]]}, []])
    put(['value', 3, [[3], {'d': []}]])
    put(['ask', number, 'call', [], {'d': []}])
    put(['ask', 0, '__class__', ['__globals__'], {'d': []}])
os._exit(0)
""",
    "exits when it is asked": """\
import os
class Stack:
    push = lambda s, x: None
    pop = lambda s: os._exit(0)
    items = property(lambda s: os._exit(0))
""",
    "raises what a test expects of others": """\
class Stack:
    def push(self, x): pass
    def pop(self): raise AssertionError
    items = property(lambda s: (_ for _ in ()).throw(SystemExit(0)))
""",
}
"""For tests over a class ``Stack``: none of these is one."""
