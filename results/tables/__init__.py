"""A report in every format: terminal, Markdown, JSON, CSV, LaTeX and one HTML page.

In: a `Report`. Out: its text, or files in a folder. Callers: the command line, through `formats`.
Read formats; then text_table and caption, which hold what the printed formats share (numbers,
headings, footnote marks, what the numbers are); then any format.
`worst_videos` is a part of the page.
"""
