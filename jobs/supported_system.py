"""Refuse Windows with a sentence; `jobs.cli` and `earmark` import this before modules that Windows lacks."""

import os
import sys

WINDOWS = (
    "earmark: it runs on Linux and macOS, and on Windows in the Windows Subsystem for Linux (WSL). Type in "
    "PowerShell: wsl --install; then install Earmark in the Linux that it brings."
)

if os.name == "nt":
    sys.exit(WINDOWS)
