"""Models that other projects trained, written as exported models of this one: ``vdm-import``."""
