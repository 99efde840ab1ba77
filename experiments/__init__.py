"""From a grid to finished runs: plan, run ledger, executors, tracking."""
