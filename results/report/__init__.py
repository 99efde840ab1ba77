"""A report: the table of a protocol with everything one must know to quote it.

In: output folders and a protocol's name. Out: a `Report` of rows, columns and footnotes, for
`results.tables` to print. Callers: the command line, tables, plots, compare.
Read report, then footnotes.
"""
