"""From a video file to chosen frames as an array: the right frames, the same ones every time.

In: a path, and a function from the file's number of frames to the wanted indices. Out: a `Clip`
of RGB frames (T, H, W, 3), or `UnreadableVideo` with the cause. For `tcclip.data.clips`, data
checks and benchmarks. No torch here: the decoding process starts in a fraction of a second.

Which frames, which track, which way up and which colours is a property of the file, as the ffmpeg
program decides it, never of the draw. Read `reader` (what a mode means), `pyav_reader`
with `video_file` (the track), `pixels` (colours, orientation) and `key_frames` (where frames can be
skipped), then `decord_reader` (the published numbers' frames). `decoder` runs `reader` in a process
that can be killed: `decode_server` is that process, `shared_memory` carries the pixels.
"""
