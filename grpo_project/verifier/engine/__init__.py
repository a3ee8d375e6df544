"""What moves jobs to workers and verdicts back: server, judges, the trainer's end, the cache of verdicts."""
