"""Training: state, step, executors, loop, evaluation, checkpoints."""
