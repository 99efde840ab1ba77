"""What is done to the pixels of decoded frames, as tensor operations on any device (SPEC 3).

In: RGB uint8 clips, and numbers that are already drawn. Out: uint8 clips; nothing here is random,
and nothing waits for a GPU. For `tcclip.data.transforms` alone, which knows what is drawn and when.

`resize` is OpenCV's bilinear resizing, `colour` torchvision's colour jitter and grey.
"""
