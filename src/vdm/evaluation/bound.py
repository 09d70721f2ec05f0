"""The variational bound of a data set, in independent replicates."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vdm.batch import Batch, chunks, repeat_batch
from vdm.bound import VariationalModel
from vdm.buildable import buildable
from vdm.draws import ExampleDraws, StackedDraws
from vdm.elbo import DiscreteTime, Time
from vdm.errors import InvalidInput, at_least
from vdm.evaluation.estimator import Estimator, Progress, Result, diffusion, need_two
from vdm.evaluation.even_gamma import with_even_gamma
from vdm.evaluation.summary import summarise
from vdm.laws import check_model

NO_AUTOCAST = (
    "the bound is not evaluated under autocast, whose rounding biases it: use trainer.precision=32-true, or allow autocast "
    "with +validation.autocast=true +test.autocast=true"
)


class BoundEvaluation:
    """The bound of each example, in ``repeats`` independent replicates.

    Draws are keyed by (seed, example index, replicate), so the result depends on batches and on
    processes by rounding alone: a network sums in another order in another batch size. Within
    a replicate, t may be stratified over the examples, so that only replicates are independent.

    Args:
        repeats: R, at least 2, because ``mc_se`` is the spread over replicates.
        seed: of the evaluation's draws.
        autocast: allow autocast, although the bound multiplies its rounding errors by the SNR.
        rows: largest number of (example, replicate) pairs in one model call; a larger batch gets one replicate a call.
        even_gamma: draw γ evenly between its ends, whatever the schedule, where the bound depends on the ends only.

    Raises:
        InvalidInput: ``repeats`` below 2, ``rows`` below 1.
    """

    def __init__(
        self, repeats: int, seed: int = 0, autocast: bool = False, rows: int = 512, even_gamma: bool = False
    ) -> None:
        at_least(1, rows=rows)
        self.even_gamma = even_gamma
        self.progress: Progress | None = None  # told the share of a batch that is done, where somebody watches
        self.repeats, self.seed, self.autocast, self.rows = need_two(repeats), seed, autocast, rows

    def drawn_from(self, model: VariationalModel) -> VariationalModel:
        """Return the model whose one-t estimates are drawn: ``model``, or the same with γ drawn evenly."""
        return with_even_gamma(model) if self.even_gamma else model

    @torch.no_grad()
    def __call__(self, model: VariationalModel, batch: Batch) -> Tensor:
        """Return (terms, B, R) in bits/dim, in the order of ``model.term_names``.

        Raises:
            InvalidInput: autocast is on and not allowed.
        """
        if not self.autocast and torch.is_autocast_enabled(batch.x.device.type):
            raise InvalidInput(NO_AUTOCAST)
        check_model(model, batch.x)
        model = self.drawn_from(model)
        blocks, several = [], max(1, self.rows // len(batch.x))
        for start in range(0, self.repeats, several):
            repeats = range(start, min(start + several, self.repeats))
            draws = StackedDraws([ExampleDraws(batch.index, self.seed, repeat) for repeat in repeats])
            condition = None if batch.condition is None else repeat_batch(batch.condition, len(repeats))
            terms = model.elbo(repeat_batch(batch.x, len(repeats)), draws, condition).terms()
            values = torch.stack([terms[name].double() for name in model.term_names])
            blocks.append(values.view(len(values), len(repeats), len(batch.x)))
            if self.progress is not None:
                self.progress(repeats.stop / self.repeats)
        return torch.cat(blocks, 1).mT


class BoundAt(Estimator):
    """The bound (1.62), term by term, in other times than the model's own.

    Args:
        times: any of ``DiscreteTime(T)`` and ``ContinuousTime()``.
        repeats, seed: as in ``BoundEvaluation``.
        examples: how many examples, from the start of the data set; null for all.
        rows: largest number of examples in one network call.

    Raises:
        InvalidInput: no times, ``repeats`` below 2, ``examples`` or ``rows`` below 1.
    """

    def __init__(
        self, times: Sequence[Time], repeats: int, seed: int = 0, examples: int | None = None, rows: int = 512
    ) -> None:
        if not times:
            raise InvalidInput("timesteps is empty: list some, such as timesteps=[100, 1000], or leave it out with null")
        super().__init__(examples, rows)
        self.times, self.each = list(times), BoundEvaluation(repeats, seed)

    @classmethod
    @buildable
    def timesteps(
        cls, timesteps: Sequence[int], repeats: int, seed: int = 0, examples: int | None = None, rows: int = 512
    ) -> "BoundAt":
        """The bound at each T of a list."""
        return cls([DiscreteTime(T) for T in timesteps], repeats, seed, examples, rows)

    def check(self, model: VariationalModel) -> None:
        for time in self.times:
            diffusion(model, "the bound at another T").at(time)

    def estimate(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        vdm, results = diffusion(model, "the bound at another T"), []
        for number, time in enumerate(self.times):
            timed, columns = vdm.at(time), []
            for chunk in chunks(data, self.rows):
                columns.append(self.each(timed, chunk))
                progress((number + sum(c.shape[1] for c in columns) / len(data.x)) / len(self.times))
            values = torch.cat(columns, 1)
            names = {i: name for i, name in enumerate(vdm.term_names) if not name.startswith("layer_")}
            terms = {name: summarise(values[i], vdm.independent_draws) for i, name in names.items()}
            n, repeats, label = len(data.x), self.each.repeats, f"bound, T = {time}"
            facts: dict[str, object] = {"seed": self.each.seed}
            results.append(Result(f"bound_T{time}", label, terms, n, repeats, n * repeats, facts, values=values[0]))
        return results
