"""Trainer callbacks. They observe and decide; the work itself is done elsewhere."""
