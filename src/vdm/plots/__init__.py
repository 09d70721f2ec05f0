"""Figures and images: pure functions from numbers."""
