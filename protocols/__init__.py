"""What each protocol trains on, evaluates on, and how a result is selected: data, no torch."""
