#!/usr/bin/env python3
"""Answers the functions of netspectra_function.xml; goes among the server's user scripts.

The first line must name a Python that has NetSpectra installed, such as
``#!/opt/netspectra/.venv/bin/python``.
"""

import sys

from flows.storage.serve_functions import main

sys.exit(main(sys.argv[1:]))
