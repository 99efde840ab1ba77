"""What the GPU computes, how fast and how exactly, measured with the product's own code.

    python -m tests.benchmarks.gpu_bench --minutes 8             # prints
    python -m tests.benchmarks.gpu_bench --minutes 8 --write     # and writes docs/gpu_bench_DATE.*
    python -m tests.benchmarks.gpu_bench --device cpu --geometry tiny --minutes 0.5

Needs torch, torchvision, pydantic, open_clip_torch, ftfy and av alone. `report` keeps rows and the
time left; `drive` runs `Trainer` and `Evaluator` on prepared batches; the blocks, in the order in
which they run, are in `machine`, `numbers`, `speed` and `loading`; `profiles` looks into a step,
`compiling` compiles the first rows beside the checks of numbers.
"""
