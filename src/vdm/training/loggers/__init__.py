"""Loggers, one file each, named as in ``configs/logger``."""
