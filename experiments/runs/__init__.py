"""Runs as things one handles: `tcclip runs`, and `tcclip explain-protocol`.

In: run folders, which the user names by ids or patterns. Out: what is in them, printed; new runs
that go on with finished ones; folders moved to the trash, files deleted. Called by `cli.py` alone.

Read `commands` (the options), `listing` (list and show), `extend`, `removal` (forget and clean),
`protocol_text` (a protocol in ten lines).
"""
