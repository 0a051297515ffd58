"""Pages in headless Chromium, as people would see them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@cache
def no_chromium() -> str | None:
    if program() is None:
        return "chromium isn't installed; apt-get install chromium"
    if importlib.util.find_spec("playwright") is None:
        return "playwright isn't installed; pip install -r requirements.lock"
    return None


def program() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The distribution's browser: none is downloaded.
        launched = playwright.chromium.launch(executable_path=program(), args=list(_FLAGS))
        yield launched
        launched.close()
