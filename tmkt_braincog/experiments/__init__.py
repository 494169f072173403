"""Measurements of many runs."""

MEASUREMENTS = {
    "gradient-variance": "variance of the gradient for each mixing strategy, at the initial and the last weights",
    "energy": "spike rates, synaptic operations and energy of one inference, over all seeds",
}
