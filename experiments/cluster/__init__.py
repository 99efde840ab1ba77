"""Where Ray is: decided once, the same for a sweep, its dry run and `doctor`.

In: the option `--address` and the environment. Out: a `RayPlace`, which says in one line whether a
sweep joins a cluster or starts Ray itself, and how; or a UserError, before Ray itself would wait.
Called by the scheduler and `doctor`. Ray is imported by child processes alone.

Read `place`, the decision, then `joining`, which tries whether a cluster can be joined.
"""

from experiments.cluster.place import RayPlace, find_ray

__all__ = ["RayPlace", "find_ray"]
