"""The verifier as a service for trainers in other languages: ``grpo serve``, HTTP with JSON, described by OpenAPI.

Needs the extra ``grpo-project[serve]`` (FastAPI, uvicorn). Must not import torch.
"""
