"""Models: things with an ELBO."""

from vdm.models.vdm import VDM

__all__ = ["VDM"]
