"""Whether the data that runs need is there, can be read and means what it seems to mean.

In: data sets with their lists and class names (DataPaths), the runs of a plan.
Out: DatasetCheck, kept in the cache (`tcclip data check`); problems and warnings of a plan; the
warnings that stay with a run's result. Used by cli, worker and doctor.

Read in this order: record (the schema of what was found), class_names, videos (which entries are
the same video), lists (what is odd in lists and between them), plan (the same of planned runs),
decoding, check (all of it for one data set).
"""
