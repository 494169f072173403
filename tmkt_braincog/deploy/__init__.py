"""Trained networks in use: predictions, exports, model cards."""
