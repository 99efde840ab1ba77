"""Weights between two sets of weights, or averaged over epochs, while a model is trained.

In: a model and the weights it started from. Out: blocks in which its parameters have other values,
and after which they are what they were. Callers: `tcclip.step`, `tcclip.train`, for methods that
ask for it (`tcclip.methods`).
"""
