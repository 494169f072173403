"""Tables, sweeps and measurements: many runs, and what is made of them."""

# What is neither a table of rows nor a figure, with what it gives.
TABLES = {"sweep": "any options varied", "fewshot": "accuracy against shots on N-MNIST"}
MEASUREMENTS = {
    "gradient-variance": "variance of the gradient for each mixing strategy, at the initial and the last weights",
    "energy": "spike rates, synaptic operations and energy of one inference, over all seeds",
}
