"""Evaluation: which problems, how many solved, and how sure one can be of it.

``estimators``, ``selection`` and ``result`` are plain values and arithmetic (numpy at most). Only ``generation`` and
``evaluator`` import torch; this file imports nothing, so that reports can use the arithmetic without it.
"""
