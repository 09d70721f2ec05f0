"""Estimators of log p(x), and their error bars."""

from vdm.evaluation.bound import BoundAt, BoundEvaluation
from vdm.evaluation.dequantisation import (
    Dequantisation,
    NoDequantisation,
    SeveralDequantisations,
    TruncatedNormalDequantisation,
    UniformDequantisation,
)
from vdm.evaluation.estimator import Estimator, Result
from vdm.evaluation.flow import FlowLikelihood
from vdm.evaluation.importance import ImportanceWeighted
from vdm.evaluation.stratified_bound import StratifiedBound
from vdm.evaluation.summary import BoundSummary

__all__ = [
    "BoundAt",
    "BoundEvaluation",
    "BoundSummary",
    "Dequantisation",
    "Estimator",
    "FlowLikelihood",
    "ImportanceWeighted",
    "NoDequantisation",
    "Result",
    "SeveralDequantisations",
    "StratifiedBound",
    "TruncatedNormalDequantisation",
    "UniformDequantisation",
]
