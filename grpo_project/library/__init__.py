"""What ``import grpo_project`` offers beside the verifier: evaluate, train, read a run, feed another trainer.

Thin: each function puts rooms below together. Its names are re-exported by ``grpo_project`` and pinned by a test.
"""
