"""The report as people see it: in a browser, light and dark, on a phone and on a desk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import browser
from tests.support.jobs import CLI, command

WIDTHS = (360, 768, 1280)
SECTIONS = (
    "summary", "traffic", "alerts", "talkers", "protocols", "spreaders", "distinct", "flows",
    "ledger", "reading",
)  # fmt: skip

pytestmark = pytest.mark.requires("chromium")


@pytest.fixture(scope="module")
def report(demo_store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    done = command([*CLI, "report"], directory, STORE=demo_store)
    assert done.returncode == 0, done.stderr
    return directory / "report.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as launched:
        yield launched


def open_page(chromium: Any, report: Path, **how: Any) -> tuple[Any, list[str]]:
    """The page and what the browser complains about, requests to elsewhere included."""
    page = chromium.new_page(**how)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: complaints.append(r.url) if r.url != report.as_uri() else None)
    page.goto(report.as_uri())
    return page, [each for each in complaints if not each.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_nobody_complains(
    chromium: Any, report: Path, tmp_path: Path, scheme: str
) -> None:
    """No width overflows, nothing is loaded or refused, and the scheme is the reader's."""
    for width in WIDTHS:
        viewport = {"width": width, "height": 800}
        page, complaints = open_page(chromium, report, viewport=viewport, color_scheme=scheme)
        assert not complaints
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
        assert dark == (scheme == "dark")
        page.close()


def test_what_an_analyst_looks_for_is_there(chromium: Any, report: Path) -> None:
    """Every section has its heading, every chart a name, a table, and one form that shows."""
    for width in WIDTHS:
        page, _ = open_page(chromium, report, viewport={"width": width, "height": 800})
        for section in SECTIONS:
            assert page.locator(f"section#{section} h2").is_visible()
            assert page.locator(f"nav a[href='#{section}']").is_visible()
        figures = page.locator("figure")
        assert figures.count() >= 7
        for at in range(figures.count()):
            shown = figures.nth(at).locator("svg[role=img]").filter(visible=True)
            assert shown.count() == 1
            assert shown.get_attribute("aria-label")
            box = shown.bounding_box()
            assert box["width"] > 200
            assert box["height"] > 40
            # Texts of a chart are neither cut off at its edges nor too small to read.
            assert shown.evaluate(
                "svg => { const edge = svg.getBoundingClientRect();"
                " return [...svg.querySelectorAll('text')].every(t => {"
                " const box = t.getBoundingClientRect();"
                " return box.left >= edge.left - 2 && box.right <= edge.right + 2 }) }"
            )
            assert (
                shown.evaluate(
                    "svg => 11 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width"
                )
                > 8
            )
        assert page.locator("main").count() == page.locator("h1").count() == 1
        page.close()


def test_an_alert_leads_to_its_evidence(chromium: Any, report: Path) -> None:
    """From the summary a link leads to the alert, whose flows and SQL open beneath it."""
    page, _ = open_page(chromium, report, viewport={"width": 360, "height": 800})
    page.locator("#summary .remarks a").first.click()
    article = page.locator("article:target")
    assert article.is_visible()
    assert not article.locator("pre").is_visible()
    article.get_by_text("Evidence:").click()
    assert "SELECT" in article.locator("pre").inner_text()
    assert article.locator("table").first.locator("tbody tr").count() > 0


def test_it_prints_light_with_its_evidence(chromium: Any, report: Path, tmp_path: Path) -> None:
    """On paper the page is light, without links to sections, and with what was folded away."""
    page, _ = open_page(chromium, report, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.locator("article pre").first.is_visible()
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
