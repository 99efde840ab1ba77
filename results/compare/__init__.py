"""Is one method better than another? Paired differences with bootstrap confidence intervals.

In: two selections of finished runs, A and B (`tc_clip:llm`, an output folder, ...), and a protocol.
Out: a `Comparison`, its text and plot. Callers: the command line, `tcclip compare A B`.
Read selection (which runs, their kept scores), compare, power (how many seeds would do).
"""
