"""Likelihoods p(x_0 | x_1): the reconstruction term, and the decoding of samples."""

from vdm.likelihoods.base import LevelLikelihood, Likelihood
from vdm.likelihoods.categorical import CategoricalLikelihood
from vdm.likelihoods.gaussian import GaussianLikelihood

__all__ = ["CategoricalLikelihood", "GaussianLikelihood", "LevelLikelihood", "Likelihood"]
