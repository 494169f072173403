"""Training methods by name, and parts that join them: one file and one name each."""

from .base import METHODS as METHODS
from .base import PARTS as PARTS
from .base import Method as Method
from .base import Part as Part
from .base import total as total
from .baseline import Baseline as Baseline
from .ckd import CKD as CKD
from .etc import ETC as ETC
from .event_only import EventOnly as EventOnly
from .finetune import Finetune as Finetune
from .names import SYSTEMS as SYSTEMS
from .names import build_method as build_method
from .names import canonical as canonical
from .names import method_class as method_class
from .names import split_name as split_name
from .names import teachers_of as teachers_of
from .r2etl import R2ETL as R2ETL
from .seal import SeAl as SeAl
from .tks import TKS as TKS
from .tmkt import TMKT as TMKT
from .vl2spike import VL2Spike as VL2Spike
