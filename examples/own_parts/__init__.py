"""A model, loss, metric, optimiser, data set and task from outside `research/`."""
