"""What else is said of samples by their features, in torch-fidelity's own arithmetic."""

from abc import ABC, abstractmethod

from torch import Tensor

from vdm.errors import InvalidInput, at_least
from vdm.evaluation.samples.features import Classifier, FeatureNetwork, optional


class SampleMetric(ABC):
    """A number, or several, from the features of samples (n, F) and of data (N, F), both float64 on the CPU."""

    @abstractmethod
    def check(self, network: FeatureNetwork, n: int, examples: int) -> None:
        """Raises InvalidInput where the network, or the number of samples or of examples, does not do."""

    @abstractmethod
    def __call__(self, network: FeatureNetwork, samples: Tensor, data: Tensor) -> dict[str, float]:
        """By name, with the network's in it."""


class KID(SampleMetric):
    """Kernel inception distance (Bińkowski et al. 2018): the squared MMD with kernel (x·y/F + 1)³, unbiased for any n.

    The mean over random subsets, and its spread over them.

    Args:
        subsets: how many.
        subset_size: of how many samples and as many examples each.
        seed: of the subsets.
    """

    def __init__(self, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> None:
        at_least(1, subsets=subsets)
        at_least(2, subset_size=subset_size)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def check(self, network: FeatureNetwork, n: int, examples: int) -> None:
        if self.subset_size > min(n, examples):
            raise InvalidInput(
                f"KID's subsets of {self.subset_size} need as many samples and examples, and there are {n} and {examples}: "
                "raise fid.n, or lower relatives.kid.subset_size"
            )

    def __call__(self, network: FeatureNetwork, samples: Tensor, data: Tensor) -> dict[str, float]:
        found = optional("torch_fidelity.metric_kid").kid_features_to_metric(
            samples,
            data,
            kid_subsets=self.subsets,
            kid_subset_size=self.subset_size,
            rng_seed=self.seed,
            verbose=False,
        )
        name = f"kid_{network.name}"
        return {
            name: found["kernel_inception_distance_mean"],
            f"{name}_subset_sd": found["kernel_inception_distance_std"],
        }


class InceptionScore(SampleMetric):
    """exp E KL(p(y | x) ‖ p(y)) of the samples' classes (Salimans et al. 2016): the mean over splits, and its spread.

    Args:
        splits: how many.
        seed: of the order in which samples are split.
    """

    def __init__(self, splits: int = 10, seed: int = 0) -> None:
        at_least(1, splits=splits)
        self.splits, self.seed = splits, seed

    def check(self, network: FeatureNetwork, n: int, examples: int) -> None:
        if not isinstance(network, Classifier):
            raise InvalidInput(f"an Inception score needs a network that knows classes, and {network.name} does not")
        if n < self.splits:
            raise InvalidInput(f"an Inception score over {self.splits} splits needs as many samples, got fid.n={n}")

    def __call__(self, network: FeatureNetwork, samples: Tensor, data: Tensor) -> dict[str, float]:
        assert isinstance(network, Classifier)
        score = optional("torch_fidelity.metric_isc").isc_features_to_metric
        found = score(network.logits(samples), self.splits, True, self.seed)
        name = f"score_{network.name}"
        return {name: found["inception_score_mean"], f"{name}_split_sd": found["inception_score_std"]}


class PrecisionRecall(SampleMetric):
    """The share of samples within the k-nearest-neighbour balls of the data, and the reverse (Kynkäänniemi et al. 2019).

    Args:
        neighbours: k.
        rows: how many samples are compared with as many at a time.
    """

    def __init__(self, neighbours: int = 3, rows: int = 10_000) -> None:
        at_least(1, neighbours=neighbours, rows=rows)
        self.neighbours, self.rows = neighbours, rows

    def check(self, network: FeatureNetwork, n: int, examples: int) -> None:
        if self.neighbours >= min(n, examples):
            raise InvalidInput(f"{self.neighbours} neighbours need more samples and examples than {n} and {examples}")

    def __call__(self, network: FeatureNetwork, samples: Tensor, data: Tensor) -> dict[str, float]:
        found = optional("torch_fidelity.metric_prc").prc_features_to_metric(
            samples,
            data,
            prc_neighborhood=self.neighbours,
            prc_batch_size=self.rows,
            save_cpu_ram=True,
            verbose=False,
        )
        return {f"{name}_{network.name}": found[name] for name in ("precision", "recall")}
