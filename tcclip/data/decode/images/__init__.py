"""Videos that are stored as images: folders of frames, and packed videos.

In: a path and a function from the number of frames to the wanted indices. Out: frames (T, H, W, 3)
and their number, or DecodingError. For `reader`, `decoder`, and those who look for videos or write
them. Read `frame_folder`, then `packed_video`.
"""
