"""Annotation lists and videos on this machine: where they are, fetched, checked (`tcclip data`).

In: command line, environment, config file and YAML files of own data sets; the published lists.
Out: DataPaths, which says where a data set's lists and videos are; lists in a folder; results of
checks in the cache's checks/. Used by cli, worker, scheduler and doctor.

Read in this order: video_files (a listed video -> its file), own (users' own data sets),
paths (DataPaths), fetch (the published lists, verified), check/ (what is missing, unreadable or
odd), packing and pack/ (videos as frames), tables (what `tcclip data` prints), commands, and
thumbnails (for a report's page).
"""
