"""Training methods by name, and parts that join them. A new method or part is one new file here and one registered name."""

from .base import METHODS, PARTS, Method, Part, total
from .baseline import Baseline
from .ckd import CKD
from .event_only import EventOnly
from .names import SYSTEMS, build_method, canonical, split_name, teachers_of
from .seal import SeAl
from .tmkt import TMKT

__all__ = [
    "CKD",
    "METHODS",
    "PARTS",
    "SYSTEMS",
    "TMKT",
    "Baseline",
    "EventOnly",
    "Method",
    "Part",
    "SeAl",
    "build_method",
    "canonical",
    "split_name",
    "teachers_of",
    "total",
]
