"""Teachers: ``tmkt teacher`` makes them, the parts of methods learn from them."""

from .kinds import Embeddings as Embeddings
from .kinds import Teacher as Teacher
from .kinds import load_teacher as load_teacher
from .kinds import save_teacher as save_teacher
from .kinds import teacher_path as teacher_path
from .network import build_teacher as build_teacher
from .network import teacher_input as teacher_input
from .network import views as views
from .outputs import give_teachers as give_teachers
from .outputs import load_teachers as load_teachers
from .outputs import teacher_outputs as teacher_outputs
