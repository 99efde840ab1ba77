"""From a video file to chosen frames as an array: the right frames, the same ones every time.

In: a path, and a function from the file's number of frames to the wanted indices. Out: a `Clip`
of RGB frames (T, H, W, 3), or `UnreadableVideo` with the cause. For `tcclip.data.clips`, data
checks and benchmarks. No torch here: the decoding process starts in a fraction of a second.

Read `reader` (which method is tried when) first, then its two methods `pyav_reader` and
`decord_reader`, then `packet_index` (whether decord may seek). `decoder` runs `reader` in a
process that can be killed: `decode_server` is that process, `shared_memory` carries the pixels.
"""
