"""The assignment of seeds by any of the methods. Shapes as in the package."""

from __future__ import annotations

import torch
from torch import Tensor

from tcclip.config import Aggregation
from tcclip.model.layers import full_precision, no_autocast
from tcclip.model.merging.ablations import density_peaks, kmeans, random_choice
from tcclip.model.merging.bipartite import MergeTables, bipartite, merge_tables
from tcclip.model.merging.gpu import KernelMatch


def assign(
    seeds: Tensor,
    k: int,
    *,
    method: Aggregation,
    step: int,
    layer: int = 0,
    matching: MergeTables | KernelMatch | None = None,
) -> Tensor:
    """Which of the k context tokens each of the seeds (B, n, D) goes into, (B, n).

    With method "none" every seed is a context token and k is n. `layer` varies the random draw;
    `matching`: how bipartite merging is done; by default its tables are made here.
    """
    B, n, _ = seeds.shape
    if method == "none":
        return torch.arange(n, device=seeds.device).expand(B, n)
    with torch.no_grad(), no_autocast(seeds):
        tokens = full_precision(seeds)
        if method == "bipartite":
            if isinstance(matching, KernelMatch):
                return matching.run(tokens, matching.steps)
            return bipartite(tokens, matching or merge_tables((B, n), k, step, seeds))
        if method == "kmeans":
            return kmeans(tokens, k)
        if method == "dpc_knn":
            return density_peaks(tokens, k)
        return random_choice(tokens, k, layer)
