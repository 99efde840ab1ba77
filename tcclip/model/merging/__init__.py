"""From seed tokens to context tokens: bipartite soft matching and its ablations (SPEC 2.1, step 4).

Shape legend: B videos, n seed tokens of a video (all frames in a row), k context tokens, D width.

Every method computes, without gradient, which context token each seed goes into: an assignment
(B, n) of int64 in [0, k), or -1 for a dropped seed. A context token is the mean of its seeds,
which equals the step-by-step weighted mean of the published method; gradients reach the seeds
through this mean alone. Called by the vision tower. Read `assignment`, `bipartite`, the same on
a GPU (`gpu`, `operator`, `kernels`), `ablations`, `clusters`.
"""
