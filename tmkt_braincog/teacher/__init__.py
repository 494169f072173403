"""ANN teachers: ``tmkt teacher train`` makes them, the parts of methods learn from them."""

from .model import build_teacher, teacher_input
from .outputs import give_teachers, load_teachers, teacher_outputs
from .trained import Teacher, load_teacher, save_teacher, teacher_path

__all__ = [
    "Teacher",
    "build_teacher",
    "give_teachers",
    "load_teacher",
    "load_teachers",
    "save_teacher",
    "teacher_input",
    "teacher_outputs",
    "teacher_path",
]
