"""The laws of the parts, at run time: a part that is not vdm's own is held to what its interface promises.

A schedule whose derivative is wrong trains and evaluates without a complaint, to a wrong number of bits/dim. ``check_laws``
finds it in milliseconds. The project's tests hold vdm's own parts to the same functions.
"""

from vdm.laws.check import check_laws, check_model, hold_foreign, law_of, laws_fact, laws_off, laws_setting
from vdm.laws.law import BrokenLaw

__all__ = ["BrokenLaw", "check_laws", "check_model", "hold_foreign", "law_of", "laws_fact", "laws_off", "laws_setting"]
