"""Training methods by name. A new method is one new file here and one registered name."""

from .base import METHODS, Method, total
from .baseline import Baseline
from .event_only import EventOnly
from .tmkt import TMKT

__all__ = ["METHODS", "TMKT", "Baseline", "EventOnly", "Method", "total"]
