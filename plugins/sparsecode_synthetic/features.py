"""The directions of the true features."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_pl.data import check_arguments


@dataclass(frozen=True)
class Features:
    """Random unit vectors, by themselves or in clusters.

    Each feature is uniform on the sphere. With `cluster_size` above 1, every so many in turn form a cluster, whose
    members have the same cosine with each other; clusters are independent. The last cluster may be smaller.

    Args:
        num_features: number of features F, at least 1.
        d_model: their width d, at least 1.
        cluster_size: features of a cluster; 1 for none.
        cluster_cosine: cosine of two features of one cluster, in [0, 1).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> features = Features(4, d_model=8, cluster_size=2, cluster_cosine=0.6).draw(torch.Generator())
        >>> (features[0] @ features[1]).item(), (features[2] @ features[3]).item()  # doctest: +ELLIPSIS
        (0.6..., 0.6...)
    """

    num_features: int
    d_model: int
    cluster_size: int = 1
    cluster_cosine: float = 0.0

    def __post_init__(self) -> None:
        check_arguments(Features, vars(self))
        for name in ("d_model", "num_features", "cluster_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if self.cluster_size > 1 and self.cluster_size >= self.d_model:
            raise ValueError(
                f"cluster_size is {self.cluster_size}, and d_model {self.d_model}: give less than d_model, so that "
                "all cosines of a cluster can be equal"
            )
        if not 0 <= self.cluster_cosine < 1:
            raise ValueError(f"cluster_cosine is {self.cluster_cosine}: give a cosine in [0, 1)")
        if self.cluster_cosine > 0 and self.cluster_size == 1:
            raise ValueError(f"cluster_cosine is {self.cluster_cosine}, and cluster_size 1: give at least 2")

    @property
    def label(self) -> str:
        """What differs from independent features, in words."""
        return "" if self.cluster_size == 1 else f"clusters of {self.cluster_size} at cosine {self.cluster_cosine:g}"

    def draw(self, random: torch.Generator) -> Tensor:
        """The features, unit rows, (num_features, d_model) float32."""
        if self.cluster_size == 1:
            return normalize(torch.randn(self.num_features, self.d_model, generator=random))
        num_clusters = -(-self.num_features // self.cluster_size)
        directions = torch.randn(num_clusters, self.d_model, 1 + self.cluster_size, generator=random)
        # The columns of Q are orthonormal: one that the cluster shares, then one of each member's own. With the signs
        # of the diagonal of R they are uniform on the sphere.
        q, r = torch.linalg.qr(directions)
        common, own = (q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)).mT.split([1, self.cluster_size], dim=1)
        members = self.cluster_cosine**0.5 * common + (1 - self.cluster_cosine) ** 0.5 * own
        return normalize(members.reshape(-1, self.d_model)[: self.num_features])
