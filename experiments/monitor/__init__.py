"""What runs are doing and what a grid will cost: `tcclip status`, the live table, `--dry-run`.

In: run folders, read through results.reading and store.Ledger; the specs of a grid. Out: text,
markdown or JSON on stdout; nothing is written. Used by cli, scheduler (Display), doctor and
datasets (print_rows). Imports neither torch nor Ray.

Read in this order: table (any table as text, markdown, JSON), status_table (the columns of runs,
and what fits), display (`tcclip status`; redrawn, or a line a change), dry_run, cost (what a run
costs: videos, steps, GPU-hours, disk), rates (what is measured for it).
"""
