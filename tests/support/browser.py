"""Chromium for tests, driven by selenium."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

AXE = Path(__file__).parent.parent / "vendor" / "axe-core" / "axe.min.js"

needs_browser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium and chromedriver are not installed (Debian: chromium, chromium-driver)",
)


class Browser:
    """A Chromium window, and the actions of its user."""

    def __init__(self, driver):
        self.driver = driver

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: condition())

    def press(self, element):
        """Click an element after scrolling it out from under the navigation bar."""
        self.run("arguments[0].scrollIntoView({ block: 'center' })", element)
        element.click()

    def texts(self, selector):
        """Return the text of elements, also of those outside the window."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def names(self):
        return self.texts("td.track button")

    def look(self, width=1200, dark=False):
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[theme])

    def violations(self):
        """Return the rules of axe-core that the page breaks in both color schemes, each with its elements."""
        found = []
        for dark in (False, True):
            self.look(dark=dark)
            self.run(AXE.read_text())
            found += self.driver.execute_async_script(
                "const done = arguments[arguments.length - 1];"
                "axe.run().then(({ violations }) =>"
                " done(violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html }) => html)])));"
            )
        return found

    def open(self, path):
        self.look()
        self.driver.get(path.as_uri())
        self.wait(self.names)


@contextlib.contextmanager
def start_browser() -> Iterator[Browser]:
    """Start headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--mute-audio"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield Browser(driver)
    driver.quit()
