"""Command line of the fuzzers."""

from fuzz.runner import main

main()
