"""Tables, sweeps and measurements: many runs, and what is made of them."""

# What is no table of rows, with what it gives.
TABLES = {"sweep": "any options varied", "fewshot": "accuracy against shots on N-MNIST"}
