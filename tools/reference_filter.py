#!/usr/bin/env python3
"""A filter for doxygen: prints a public header as its users see it. Usage: reference_filter.py HEADER

The comment on top of the file, which is one of `//`, becomes the file's documentation. What is in
namespaces `detail` and `std` is left out, but for classes that public ones are derived from. Every
line keeps its number.
"""

import re
import sys
from pathlib import Path

from source_tree import code_of

OWN = re.compile(r"^// (Layer|Length): ")  # for the checks of the tree
HIDDEN = re.compile(r"^namespace (?:brood::)?(?:detail|std)\b.*\{$", re.MULTILINE)
# What makes the library's types keys of hash tables, and known as shared.
SPECIALIZATION = re.compile(
    r"^template <[^<>]*>\n(?:inline constexpr bool brood::detail::|struct std::hash<)[^;]*;",
    re.MULTILINE,
)
BASE = re.compile(r":\s*public\s+detail::(\w+)")


def end_of_braces(code, begin):
    """The place behind the brace that closes the one at `begin`."""
    depth = 0
    for at in range(begin, len(code)):
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        if depth == 0:
            return at + 1
    return len(code)


def class_in(text, code, begin, end, name):
    """Where the class is, with its comment and template; None if it is not there."""
    head = re.compile(rf"^(?:class|struct)[^;{{]*\b{name}\b[^;{{]*\{{", re.MULTILINE)
    found = head.search(code, begin, end)
    if not found:
        return None
    first = found.start()
    lines = text[:first].split("\n")
    while len(lines) > 1 and re.match(r"///|template|\s+requires", lines[-2]):
        first -= len(lines[-2]) + 1
        lines.pop(-2)
    return first, end_of_braces(code, found.end() - 1) + 1


def blanked(text):
    return re.sub(r"[^\n]", "", text)


def without_details(text):
    code = code_of(text)
    bases = set(BASE.findall(code))
    out, at = "", 0
    for hidden in HIDDEN.finditer(code):
        if hidden.start() < at:
            continue
        begin, end = hidden.end(), end_of_braces(code, hidden.end() - 1)
        kept = sorted(filter(None, (class_in(text, code, begin, end, base) for base in bases)))
        out += text[at : hidden.end()] if kept else text[at : hidden.start()]
        at = begin
        for first, last in kept:
            out += blanked(text[at:first]) + text[first:last]
            at = last
        out += blanked(text[at : end - 1]) + ("}" if kept else "")
        at = end
    return out + text[at:]


def with_file_comment(text, name):
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if not line.startswith("//")), len(lines))
    first = next((i for i in range(end) if not OWN.match(lines[i])), end)
    for i in range(first, end):
        lines[i] = "///" + lines[i][2:]
    if first > 0:
        lines[first - 1] = f"/// @file {name}"
    return "\n".join(lines)


def filtered(text, name):
    text = SPECIALIZATION.sub(lambda match: blanked(match.group()), without_details(text))
    return with_file_comment(text, name)


def main():
    path = Path(sys.argv[1])
    sys.stdout.write(filtered(path.read_text(encoding="utf-8"), f"brood/{path.name}"))


if __name__ == "__main__":
    main()
