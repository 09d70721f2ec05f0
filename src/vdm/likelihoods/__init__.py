"""Likelihoods p(x_0 | x_1): the reconstruction term of (1.62), and the decoding of samples."""

from vdm.likelihoods.base import LevelLikelihood, Likelihood
from vdm.likelihoods.categorical import CategoricalLikelihood
from vdm.likelihoods.discretised import (
    DiscretisedGaussianLikelihood,
    DiscretisedNormal,
    FixedVariance,
    InterpolatedVariance,
    LearnedVariance,
    PosteriorVariance,
    ReconstructionVariance,
)
from vdm.likelihoods.gaussian import DenoisedGaussianLikelihood, DensityLikelihood, GaussianLikelihood
