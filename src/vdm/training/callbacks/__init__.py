"""Callbacks, one file each, named as in ``configs/callbacks``."""
