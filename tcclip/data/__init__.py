"""Videos in, batches out (SPEC 3): lists, sampling, decoding, transforms, mixing.

In: annotation lists, a function from a list's path to its file, and the `AugmentConfig`. Out:
`Batch` and `EvalBatch` of uint8 clips; `mixing` then works on the model's device. For training,
evaluation, data checks, and the tests' demo data set.

Read `annotations`, `clips` (one video to one clip: `sampling`, `decode`, `transforms` with
`pixels`, random numbers from `seeding`), `loader` (clips to batches, in the processes of
`loader_pool`), `mixing`. `moving_shapes` and `shape_video` build the embedded demo data set.
"""
