"""Our problems and verdicts in the form that other trainers and harnesses take: a module for each, imported by name.

None of these packages is needed for anything else. How to use each is in docs/library.md.
"""
