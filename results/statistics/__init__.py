"""Statistics of finished runs: from their results to the numbers of a protocol's table.

In: what `results.reading.collect` found, and the protocol. Out: an `Aggregated` a cell, with each
number's mean, std, n, ddof and axis; bootstrap intervals. Callers: the rooms of results above.
Read mean_std, runs, columns, expected, aggregate, bootstrap.
"""
