"""Figures and images, as pure functions of numbers."""
