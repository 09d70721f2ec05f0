"""Estimators of log p(x), and their error bars."""

from vdm.evaluation.bound import TERMS, BoundEvaluation, BoundSummary, Estimate

__all__ = ["TERMS", "BoundEvaluation", "BoundSummary", "Estimate"]
