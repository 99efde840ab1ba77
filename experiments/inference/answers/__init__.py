"""What `predict` and `calibrate` read and print.

In: the arguments as they were typed; then predictions. Out: the videos they name (`videos`), lists
of videos whose classes are known (`lists`); predictions as a table, JSON, CSV (`formats`) or a page
(`page`), a timeline in a few words (`timeline`). Callers: the commands of this room.
"""
