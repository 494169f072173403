from .data import TSMDataset as TSMDataset
from .deploy.network import Network as Network
from .deploy.network import load as load
from .losses import RDALoss as RDALoss
from .losses import classification_loss as classification_loss
from .losses import linear_cka as linear_cka
from .losses import mag_loss as mag_loss
from .losses import mrp_loss as mrp_loss
from .methods import METHODS as METHODS
from .methods import TMKT as TMKT
from .methods import Baseline as Baseline
from .methods import EventOnly as EventOnly
from .mixing import DynamicLinear as DynamicLinear
from .mixing import DynamicNonLinear as DynamicNonLinear
from .mixing import FixedRatio as FixedRatio
from .mixing import Progress as Progress
from .mixing import SlidingReplacement as SlidingReplacement
from .mixing import TimeStepMixup as TimeStepMixup
from .mixing import mix as mix
from .mixing import solve_p as solve_p
from .models import MAGHead as MAGHead
from .models import MRPHead as MRPHead
from .models import Transfer_ResNet18 as Transfer_ResNet18
from .models import Transfer_SCNN as Transfer_SCNN
from .models import Transfer_SEWResNet18 as Transfer_SEWResNet18
from .models import Transfer_VGG_SNN as Transfer_VGG_SNN

__version__: str
