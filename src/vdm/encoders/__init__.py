"""Learned means of the forward process: encoders f(x, γ), and the processes that q(x_t | x) = N(√ᾱ f(x, γ), σ² I) makes."""

from vdm.encoders.base import MeanEncoder
from vdm.encoders.closed import IdentityEncoder, LinearEncoder
from vdm.encoders.network import NetworkEncoder
from vdm.encoders.process import DataPredicting, LearnedMean, MeanPredicting
