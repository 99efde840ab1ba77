"""What only a CUDA device can show: `pytest -m gpu tests/gpu`.

They need pytest and what `tcclip` imports, no Ray, MLflow or decord.
"""
