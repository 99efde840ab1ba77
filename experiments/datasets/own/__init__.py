"""Users' own data sets: from a folder of videos to a YAML file and lists, from these to a data set.

In: a folder of class folders, or the lists of another project; the YAML file. Out: `OwnData` for
paths; for `tcclip data init`, files in our own form, so that runs read one form only.

Read yaml_file (what the file may say), init (what is written), then where the videos and classes
come from: class_folders, foreign_lists and foreign_tables.
"""
