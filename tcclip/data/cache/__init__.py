"""Videos decoded once on a machine: their frames, kept as files that any run may use.

In: a video's path, the frames wanted of it, and how they are prepared (resized, cropped). Out: the
prepared frames, bit for bit as without the cache, and which of them had to be decoded. For
`tcclip.data.clips`; `tcclip data cache` shows and clears it.

Read `frames` (what is looked up, decoded and kept), `identity` (by what a video is known), `entry`
(the file of one video) and `store` (files, their limit and locks).
"""
