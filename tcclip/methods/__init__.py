"""The methods there are: what the rest must know of each, without torch.

In: a method's name, as in `--models` and in settings. Out: its `Method`: title, settings, prompt,
learning rates, names of its published weights. Callers: everybody who must know one method from
another; nobody compares names. A method is one file here and a line in `registry`, or an entry
point of another package (docs/methods.md).

Read `method` (what there is to say of one), `registry`, then `open_vclip`, which says most.
"""

from tcclip.methods.method import Method
from tcclip.methods.registry import get, names, resolved, settings, shown

__all__ = ["Method", "get", "names", "resolved", "settings", "shown"]
