"""GRPO training for code models that survives being killed.

The package has one direction: ``errors``, ``problems``, ``verifier``, ``rewards`` and ``curriculum`` know neither
torch nor wandb; ``core``, ``callbacks`` and ``evaluation`` build on them; ``cli`` and ``commands`` sit on top.
Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
