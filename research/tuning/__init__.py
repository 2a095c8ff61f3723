"""Search: spaces, samplers, schedulers, populations of trials, and the study that drives them."""
