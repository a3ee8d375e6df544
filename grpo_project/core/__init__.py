"""The run: trainer, checkpoints, journal, and the journal's projection to W&B."""
