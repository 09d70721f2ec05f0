"""A lossless codec: bits-back coding of levels with a variational model, whose length is its bound."""

from vdm.codec.codec import Decoded, Encoded, Images, Settings, compress, decode, decompress, encode
from vdm.codec.spacing import EvenInGamma, EvenInTime, Grid, LeastExcess
