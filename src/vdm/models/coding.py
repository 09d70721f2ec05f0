"""The order in which bits-back coding visits a model's latents (Frey & Hinton 1997; Townsend et al. 2019)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor
from torch.distributions import Independent

DATA_LIKE = -1
"""Key of a tensor of zeros with the rows, shape and dtype of the encoded data, from which a prior takes its shape."""


Conditional = Callable[[Mapping[int, Tensor]], Independent | Tensor]
"""Maps known variables, by number, to the Gaussian of z_t, or for x to log p(x = k | z) of every level, (B, *event, K)."""


class CodingStep(NamedTuple):
    """One step of an encoder that draws latents from a stack of bits and stores them, and the data, on it.

    The decoder takes the same steps in the opposite order, storing what was drawn and drawing what was stored. So a
    conditional may depend on variables that were drawn by an earlier step and are stored by a later one, and on no other.

    Attributes:
        draws: whether the encoder draws the variable, from q; it stores it otherwise, by p.
        variable: t for z_t, 0 for the data.
        conditional: of the variable, given those known; the data are known as their encoding x_0.
    """

    draws: bool
    variable: int
    conditional: Conditional
