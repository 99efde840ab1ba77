"""MLflow as a view of the run folders; nothing outside of this folder imports mlflow.

`mirror` copies what the folders say, `copies` finds the MLflow run of a run folder, `database`
looks after a tracker that is a file, `following` keeps the view up to date while a sweep runs.
"""

from experiments.tracking.mirror import (
    LOCAL_UI,
    Mirror,
    StillCopying,
    database_of,
    default_uri,
    home,
)
from experiments.tracking.sync_errors import Incomplete

__all__ = ["LOCAL_UI", "Incomplete", "Mirror", "StillCopying", "database_of", "default_uri", "home"]
