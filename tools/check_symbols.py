#!/usr/bin/env python3
"""Checks what a shared library of Brood shows: its own names, and none of those that it is made of.
Usage: check_symbols.py NM LIBRARY. Prints each symbol that should not be there.
"""

import re
import subprocess
import sys

# _Z, or what the compiler makes of a name (_ZTV, _ZGV, _ZThn16_N ...), then N, and brood first.
OWN = re.compile(r"^_Z(?:T[A-Za-z]+[0-9]*_?|GV)?Z?N[KORV]*5brood")


def exported(nm, library):
    listing = subprocess.run(
        [nm, "--dynamic", "--defined-only", "--format=posix", library],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [line.split()[0].split("@")[0] for line in listing.stdout.splitlines() if line]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    symbols = exported(sys.argv[1], sys.argv[2])
    strangers = [symbol for symbol in symbols if not OWN.match(symbol)]
    for symbol in strangers:
        print(f"{symbol}: not Brood's to show; see cmake/brood.map")
    if not symbols:
        print(f"{sys.argv[2]} shows nothing")
    sys.exit(1 if strangers or not symbols else 0)


if __name__ == "__main__":
    main()
