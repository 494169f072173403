"""What the static stream is made of, by name: one file and one name each."""

from .base import ENCODINGS as ENCODINGS
from .base import Encoding as Encoding
from .base import build_encoding as build_encoding
from .i2e import I2E as I2E
from .repeat import Repeat as Repeat
from .saccade import Saccade as Saccade
