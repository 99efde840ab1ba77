"""The numbers of the published papers (SPEC 7), each with its statistic, axis and source.

In: numbers.yaml. Out: `PublishedNumber`s, and which of them one of our numbers is compared with.
Callers: results.report.
"""
