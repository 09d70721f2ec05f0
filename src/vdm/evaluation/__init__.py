"""Estimators of log p(x), and their error bars."""

from vdm.evaluation.bound import TERMS, BoundAt, BoundEvaluation, BoundSummary
from vdm.evaluation.estimator import Estimate, Estimator, Result
from vdm.evaluation.importance import ImportanceWeighted

__all__ = [
    "TERMS",
    "BoundAt",
    "BoundEvaluation",
    "BoundSummary",
    "Estimate",
    "Estimator",
    "ImportanceWeighted",
    "Result",
]
