"""The C++ files of the tree as the checks see them: text, code without comments, includes."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

# From the bottom up. Those in one row are siblings: none knows another.
LAYERS = [
    ["platform"],
    ["memory"],
    ["sync"],
    ["channel"],
    ["process"],
    ["pool", "manager"],
    ["pipeline"],
    ["cluster"],
]
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
UMBRELLA = "brood.hpp"

_TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n]* | /\*.*?\*/ )
    | (?P<raw> \b(?:u8|[uUL])?R"(?P<delimiter>[^()\s\\]{0,16})\(.*?\)(?P=delimiter)" )
    | (?P<include> ^[ \t]*\#[ \t]*include[^\n]* )
    | (?P<string> "(?:\\.|[^"\\\n])*" )
    | (?P<character> (?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+' )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(<[^>\n]+>|"[^"\n]+")', re.MULTILINE)


def code_of(text):
    """`text` with comments and the insides of literals blanked; every line keeps its number."""

    def blank(match):
        if match.lastgroup == "include":
            return match.group()
        kept = re.sub(r"[^\n]", " ", match.group())
        return kept if match.lastgroup == "comment" else '"' + kept[1:-1] + '"'

    return _TOKEN.sub(blank, text)


@dataclass
class Source:
    root: Path
    path: Path

    @property
    def name(self):
        return self.path.relative_to(self.root).as_posix()

    @cached_property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def lines(self):
        return self.text.splitlines()

    @cached_property
    def code(self):
        return code_of(self.text)

    @property
    def is_header(self):
        return self.path.suffix == ".hpp"

    @property
    def in_brood(self):
        """Path below src/brood, as a user would include it."""
        return self.path.relative_to(self.root / "src" / "brood").as_posix()

    @property
    def is_top_level(self):
        return "/" not in self.in_brood

    @cached_property
    def declared_layer(self):
        for line in self.lines[:5]:
            match = re.match(r"//\s*Layer:\s*(\S+)", line)
            if match:
                return match.group(1)
        return None

    @property
    def layer(self):
        """Its folder's name, or for files at the top what they declare."""
        return self.declared_layer if self.is_top_level else self.in_brood.split("/")[0]

    @cached_property
    def includes(self):
        """(line number, what stands between <> or \"\", True for <>) of each include."""
        found = []
        for match in _INCLUDE.finditer(self.code):
            line = self.code.count("\n", 0, match.start()) + 1
            found.append((line, match.group(1)[1:-1], match.group(1)[0] == "<"))
        return found

    def matches(self, pattern):
        """(line number, match) of each occurrence of `pattern` in the code."""
        for match in re.finditer(pattern, self.code):
            yield self.code.count("\n", 0, match.start()) + 1, match


@dataclass
class Report:
    """What is wrong, one `file:line: sentence` each."""

    problems: list = field(default_factory=list)

    def add(self, name, line, sentence):
        self.problems.append((name, line, sentence))

    def finish(self):
        """Prints the problems; returns the exit status."""
        for name, line, sentence in sorted(self.problems):
            print(f"{name}:{line}: {sentence}")
        return 1 if self.problems else 0


def library_sources(root):
    """Every C++ file below src/brood."""
    folder = root / "src" / "brood"
    return [Source(root, path) for path in sorted(folder.rglob("*.[ch]pp"))]
