"""One run on one worker: from a job to `result.json`.

In: a `Job`, and the lease its sweep claimed. Out: the run folder's metrics, checkpoints,
predictions and result, or an exception. Only the scheduler runs jobs; the doctor and tracking read
the `provenance` of this machine.

Read `job` and `run` first. `data` reads the lists, `checkpoints` saves and resumes the training,
`result` writes what was measured, with its `provenance`. `memory` finds batches and numbers of
loader processes that fit. `checkpoint_commands` is `tcclip checkpoint`.
"""
