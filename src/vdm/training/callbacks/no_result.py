"""Runs that try something out, and whose numbers are not to be reported."""

from lightning.pytorch.callbacks import Callback


class NoResult(Callback):
    """Mark a run's numbers as no results: among the warnings of the closing table and of metrics.json.

    Args:
        reason: what was shortened.
        pictures: whether the run draws its final pictures.
    """

    def __init__(self, reason: str, pictures: bool = True) -> None:
        self.reason, self.pictures = reason, pictures

    @property
    def sentence(self) -> str:
        """The warning."""
        return f"these numbers are no results: {self.reason}"
