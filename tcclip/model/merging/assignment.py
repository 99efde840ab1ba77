"""The assignment of seeds by any of the methods. Shapes as in the package."""

from __future__ import annotations

import torch
from torch import Tensor

from tcclip.config import Aggregation
from tcclip.model.layers import full_precision, no_autocast
from tcclip.model.merging.ablations import density_peaks, kmeans, random_choice
from tcclip.model.merging.bipartite import MergeTables, bipartite, merge_steps, merge_tables
from tcclip.model.merging.gpu import kernel_match


def assign(
    seeds: Tensor,
    k: int,
    *,
    method: Aggregation,
    step: int,
    layer: int = 0,
    tables: MergeTables | None = None,
) -> Tensor:
    """Which of the k context tokens each of the seeds (B, n, D) goes into, (B, n).

    With method "none" every seed is a context token and k is n. `layer` varies the random draw;
    `tables`, those of bipartite merging, are made here if they are not given.
    """
    B, n, _ = seeds.shape
    if method == "none":
        return torch.arange(n, device=seeds.device).expand(B, n)
    with torch.no_grad(), no_autocast(seeds):
        tokens = full_precision(seeds)
        if method == "bipartite":
            match = kernel_match(tokens)
            if match is not None and n > k:
                return match(tokens, merge_steps(n, k, step))
            return bipartite(tokens, tables or merge_tables((B, n), k, step, seeds))
        if method == "kmeans":
            return kmeans(tokens, k)
        if method == "dpc_knn":
            return density_peaks(tokens, k)
        return random_choice(tokens, k, layer)
