"""A real headless Chromium or Chrome, driven by its own ChromeDriver."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.helpers import needs
from tests.helpers.commands import HANG

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
)
DESKTOP, PHONE = 1280, 360

CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const found = rgba(getComputedStyle(at).backgroundColor);
    if (found[3] === 255) return found;
  }
  return [255, 255, 255];
};
document.querySelectorAll("details").forEach((details) => (details.open = true));
const poor = [], seen = [], unseen = /^(SCRIPT|STYLE|NOSCRIPT|OPTION)$/;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, parent = node.parentElement, style = getComputedStyle(parent);
  if (!node.textContent.trim() || !parent.getClientRects().length) continue;
  if (unseen.test(parent.tagName) || parent.closest(".skip")) continue;
  const ink = light(rgba(parent.namespaceURI.endsWith("svg") ? style.fill : style.color));
  const paper = light(ground(parent));
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
  seen.push(ratio);
  if (ratio < (large ? 3 : 4.5)) poor.push([node.textContent.trim().slice(0, 40), ratio.toFixed(2)]);
}
return [seen.length, poor];
"""
"""(texts looked at, those below the AA contrast of WCAG 2.2, 1.4.3)."""


class Browser:
    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(
        self, page: Path, *, width: int = DESKTOP, dark: bool = False, media: str = "", scripts: bool = True
    ) -> None:
        """The page anew, at this width and in this scheme."""
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width == PHONE
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.tell("Emulation.setEmulatedMedia", media=media, features=features)
        self.tell("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.driver.get("about:blank")
        self.log()
        self.driver.get(page.as_uri())
        if scripts and self.js("return !!document.getElementById('payload')"):
            self.wait(
                "return !document.getElementById('reader').hidden && "
                "document.getElementById('count').textContent !== ''"
            )

    def tell(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, seconds: float = HANG) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, seconds, poll_frequency=0.02).until(lambda driver: driver.execute_script(script))

    def log(self) -> list[str]:
        """What the console said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def focused(self) -> str:
        """id, else text, of what has the focus."""
        return self.js("const at = document.activeElement; return at.id || at.textContent")


@contextmanager
def chromium() -> Iterator[Browser]:
    binary, driven_by = needs.program("chromium"), needs.program("chromedriver")
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driven_by))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
