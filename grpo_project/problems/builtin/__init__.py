"""The grammar behind the built-in problems: steps, programs made of steps, and unreliable answers to them.

Pure Python, nothing is read from disk, and torch is never imported. ``problems.quickstart`` is the way in.
"""
