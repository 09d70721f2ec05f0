"""Estimators of log p(x), and their error bars."""

from vdm.bound import TERMS
from vdm.evaluation.bound import BoundAt, BoundEvaluation, BoundSummary
from vdm.evaluation.dequantisation import (
    Dequantisation,
    NoDequantisation,
    TruncatedNormalDequantisation,
    UniformDequantisation,
)
from vdm.evaluation.estimator import Estimate, Estimator, Result
from vdm.evaluation.flow import FlowLikelihood
from vdm.evaluation.importance import ImportanceWeighted
from vdm.evaluation.target import Target

__all__ = [
    "TERMS",
    "BoundAt",
    "BoundEvaluation",
    "BoundSummary",
    "Dequantisation",
    "Estimate",
    "Estimator",
    "FlowLikelihood",
    "ImportanceWeighted",
    "NoDequantisation",
    "Result",
    "Target",
    "TruncatedNormalDequantisation",
    "UniformDequantisation",
]
