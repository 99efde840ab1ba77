"""Run folders on disk or in an object store: written whole, held by one process at a time.

In: specs, results and records to write. Out: files under `<out>/runs/<run_id>/` that are whole
whenever they are there. Everything above in experiments/ may call it; reading is in
results/reading/. Read in this order:

files            write, create and delete files, as a whole; remove what killed processes left
append_file      a file that is appended to while others read it
lease            who works on a run: claim, adopt, renew, release
attempt_records  an attempt begins, fails, pauses or is stopped
ledger           all runs of an output folder: specs, states, results
rerun            what a run held is kept aside until it has begun again
"""
