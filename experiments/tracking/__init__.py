"""MLflow's copy of the run folders; no other package imports mlflow.

In: run folders, which are only read. Out: one MLflow run for each of them, kept up to date by a
thread of the sweep, and by `tcclip ui --sync`. The copy holds nothing of its own: whatever happens
to it, it is made again from the folders. `cli.py` and `experiments.scheduler` use `ui.py`.

Read `mirror` (what is copied), `logged_models` (a run's weights and numbers), `mlflow_runs` (which
MLflow run belongs to a run folder), `sync_thread` (during a sweep), `ui` (`tcclip ui`),
`first_view` (what the UI shows first), `connection` (where the tracker is).
"""

from experiments.tracking.connection import default_uri
from experiments.tracking.mirror import Incomplete, Mirror

__all__ = ["Incomplete", "Mirror", "default_uri"]
