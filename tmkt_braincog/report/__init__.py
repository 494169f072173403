"""A report of what lies in output folders: one self-contained HTML page, and the same in Markdown."""
