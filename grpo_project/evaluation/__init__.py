"""Evaluation: which problems, how many solved, and how sure one can be of it.

``estimators``, ``trainer_set``, ``result`` and ``history`` are plain values and arithmetic (numpy at most); the others
import torch. This file imports nothing, so that reports can use the arithmetic without it.
"""
