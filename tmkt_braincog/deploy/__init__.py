"""Trained networks in use: predictions, exports, model cards, the Hugging Face Hub."""
