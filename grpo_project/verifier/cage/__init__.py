"""What confines a candidate: isolation levels, limits, the process that forks children, and what runs inside of it.

Knows nothing of expected values. Must not import the rooms beside it.
"""
