"""From finished runs to tables.

In: run folders. Out: reports beside the published numbers, comparisons of two methods.
`experiments` imports `reading`, `records`, `printing` and `errors` alone; the command line calls
`report.report`, `tables.formats` and `compare.compare`. Read from the bottom up:

records, errors     what a run leaves behind; the errors of reading it
printing            standard output and error that never fail
reading             run folders
statistics          mean, std and n of every cell; bootstrap
published           the papers' numbers
report              rows, columns, footnotes
plots, tables       its figures; every format it is printed in
compare             two methods, with confidence intervals
"""
