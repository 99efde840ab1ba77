"""Plots of a report and of a comparison, with matplotlib.

In: a `Report`, learning curves, kept scores, differences. Out: figures, as SVG text or a PNG file.
Callers: results.tables and results.compare. Read data (what is drawn), figures, and worst (the
videos that a page shows).
"""
