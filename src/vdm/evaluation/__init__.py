"""Estimators of log p(x), and their error bars."""

from vdm.estimate import Estimate
from vdm.evaluation.bound import BoundAt, BoundEvaluation, BoundSummary
from vdm.evaluation.dequantisation import (
    Dequantisation,
    NoDequantisation,
    TruncatedNormalDequantisation,
    UniformDequantisation,
)
from vdm.evaluation.estimator import Estimator, Result
from vdm.evaluation.flow import FlowLikelihood
from vdm.evaluation.importance import ImportanceWeighted
from vdm.evaluation.stratified_bound import StratifiedBound
from vdm.terms import TERMS

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
    "StratifiedBound",
    "TruncatedNormalDequantisation",
    "UniformDequantisation",
]
