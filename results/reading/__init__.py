"""Reading what runs left, on disk or in an object store; nothing is written here.

In: output folders. Out: states, results, metrics and scores of their runs. Everybody in results/
and experiments/ may call it. Read in this order:

location      paths and s3:// addresses, and reading from both
process_id    whether a process still runs
holder        who holds a run's lease
metrics_log   metrics.jsonl: records, epochs, attempts
run_folder    the files of one run, its result and its state
status        what one run is doing
collect       every result under some output folders
predictions   per-video scores
"""
