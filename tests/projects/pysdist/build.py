"""Turns notes.txt into dist/notes.html. The same notes give the same bytes."""

import pathlib

# The extension itself: the package falls back on Python where it was not compiled, and this does not.
from markupsafe._speedups import escape

NOTES = pathlib.Path("notes.txt")
PAGE = pathlib.Path("dist/notes.html")


def page(text):
    items = "".join(f"<li>{escape(line)}</li>\n" for line in text.splitlines())
    return f"<!doctype html>\n<title>Notes</title>\n<ul>\n{items}</ul>\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(NOTES.read_text(encoding="utf-8")), encoding="utf-8")
