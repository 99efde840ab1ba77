"""Packs: a data set's videos as JPEG frames, any of which is read fast (docs/packs.md).

In: videos by the entries of their lists, and a `Pack`, which says how they are stored. Out: a
folder with a zip a video, `pack.json` and the record `videos.csv`, written last. Used by
video_files and paths, which read a pack like any folder of videos, and by packing.

Read in this order: record (what a pack is), packed_video (writes one video), pack (all of them).
"""
