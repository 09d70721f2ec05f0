"""Scores and images of samples."""
