"""Sample metrics other than the FID, computed by torch-fidelity from the same features."""

from abc import ABC, abstractmethod

from torch import Tensor

from vdm.errors import InvalidInput, at_least
from vdm.evaluation.samples.features import Classifier, FeatureNetwork, optional_module


class SampleMetric(ABC):
    """One or more numbers from the features of samples (n, F) and of data (N, F), both on the CPU."""

    @abstractmethod
    def check(self, network: FeatureNetwork, n: int, examples: int) -> None:
        """Raise InvalidInput if the network, the number of samples or the number of examples does not suffice."""

    @abstractmethod
    def __call__(self, network: FeatureNetwork, samples: Tensor, data: Tensor) -> dict[str, float]:
        """Return the values by name; names contain the network's."""


class KID(SampleMetric):
    """Kernel inception distance (Bińkowski et al. 2018): the squared MMD with kernel (x·y/F + 1)³, unbiased for any n.

    Reports the mean and the standard deviation over random subsets.

    Args:
        subsets: number of subsets.
        subset_size: number of samples, and of examples, in each subset.
        seed: of the choice of subsets.
    """

    def __init__(self, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> None:
        at_least(1, subsets=subsets)
        at_least(2, subset_size=subset_size)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def check(self, network: FeatureNetwork, n: int, examples: int) -> None:
        if self.subset_size > min(n, examples):
            raise InvalidInput(
                f"KID's subsets of {self.subset_size} need as many samples and examples, got {n} and {examples}: raise "
                "fid.n or lower relatives.kid.subset_size"
            )

    def __call__(self, network: FeatureNetwork, samples: Tensor, data: Tensor) -> dict[str, float]:
        metric, name = optional_module("torch_fidelity.metric_kid").kid_features_to_metric, f"kid_{network.name}"
        settings = {"kid_subsets": self.subsets, "kid_subset_size": self.subset_size, "rng_seed": self.seed}
        found = metric(samples, data, **settings, verbose=False)
        mean, sd = (found[f"kernel_inception_distance_{key}"] for key in ("mean", "std"))
        return {name: mean, f"{name}_subset_sd": sd}


class InceptionScore(SampleMetric):
    """Inception score exp E KL(p(y | x) ‖ p(y)) of the samples' predicted classes (Salimans et al. 2016).

    Reports the mean and the standard deviation over splits of the samples.

    Args:
        splits: number of splits.
        seed: of the order in which samples are split.
    """

    def __init__(self, splits: int = 10, seed: int = 0) -> None:
        at_least(1, splits=splits)
        self.splits, self.seed = splits, seed

    def check(self, network: FeatureNetwork, n: int, examples: int) -> None:
        if not isinstance(network, Classifier):
            raise InvalidInput(f"an Inception score needs a classifier, unlike {network.name}: use fid=inception")
        if n < self.splits:
            raise InvalidInput(f"an Inception score over {self.splits} splits needs as many samples: raise fid.n={n}")

    def __call__(self, network: FeatureNetwork, samples: Tensor, data: Tensor) -> dict[str, float]:
        assert isinstance(network, Classifier)
        metric, name = optional_module("torch_fidelity.metric_isc").isc_features_to_metric, f"score_{network.name}"
        found = metric(network.logits(samples), self.splits, True, self.seed)
        return {name: found["inception_score_mean"], f"{name}_split_sd": found["inception_score_std"]}


class PrecisionRecall(SampleMetric):
    """Improved precision and recall (Kynkäänniemi et al. 2019).

    Precision is the share of samples inside the k-nearest-neighbour balls of the data; recall is the reverse.

    Args:
        neighbours: k.
        rows: batch size of the pairwise distances.
    """

    def __init__(self, neighbours: int = 3, rows: int = 10_000) -> None:
        at_least(1, neighbours=neighbours, rows=rows)
        self.neighbours, self.rows = neighbours, rows

    def check(self, network: FeatureNetwork, n: int, examples: int) -> None:
        if self.neighbours >= min(n, examples):
            raise InvalidInput(
                f"{self.neighbours} neighbours need more samples and examples than {n} and {examples}: raise fid.n"
            )

    def __call__(self, network: FeatureNetwork, samples: Tensor, data: Tensor) -> dict[str, float]:
        metric = optional_module("torch_fidelity.metric_prc").prc_features_to_metric
        settings = {"prc_neighborhood": self.neighbours, "prc_batch_size": self.rows, "save_cpu_ram": True}
        found = metric(samples, data, **settings, verbose=False)
        return {f"{name}_{network.name}": found[name] for name in ("precision", "recall")}
