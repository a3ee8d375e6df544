"""Tokens out of a model, and log-probabilities of them, for training and evaluation alike.

Knows problems only as prompts. Must not import ``record``, ``curriculum``, ``evaluation`` or ``training``.
"""
