"""The name under which Earmark starts: `earmark` on the command line, or `python -m earmark`.

The code is in the packages `featurize`, `train` and `jobs`. These are common words: a folder of someone's project
may have a `train.py`. This package alone is found by its name; it finds the others beside itself.
"""
