"""ANN teachers for distillation: ``tmkt teacher train`` makes them, the parts of methods learn from them."""

from .checkpoint import Teacher, load_teacher, teacher_path
from .model import build_teacher
from .outputs import give_teachers, load_teachers, teacher_outputs
from .view import teacher_input

__all__ = [
    "Teacher",
    "build_teacher",
    "give_teachers",
    "load_teacher",
    "load_teachers",
    "teacher_input",
    "teacher_outputs",
    "teacher_path",
]
