# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, spoken to by the DevTools protocol over pipes: no package is needed for it.

    with Browser(folder) as browser:
        page = browser.page(width=360)
        page.go("http://127.0.0.1:9902/")
        page.evaluate("document.title")
        page.screenshot("empty")
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time

SECONDS_MAX = 60
PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")


def program():
    """The path of one that is installed; None: there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    def __init__(self, folder):
        self.folder = folder
        self._number = 0
        self._profile = tempfile.TemporaryDirectory(prefix="callout-browser-",
                                                    ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()

        def as_three_and_four():
            # Through copies, for one of the two may be 3 or 4 already.
            copies = os.dup(to_browser), os.dup(from_browser)
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        self._process = subprocess.Popen(
            [program(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             f"--user-data-dir={self._profile.name}", "--remote-debugging-pipe", "about:blank"],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=as_three_and_four,
            close_fds=False)
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(SECONDS_MAX)
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def _message(self):
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 16)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        os.write(self._out, json.dumps(request).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") != self._number:
                self.events.append(message)
            elif "error" in message:
                raise RuntimeError(f"{method}: {message['error']['message']}")
            else:
                return message["result"]

    def page(self, width=1200, height=900, dark=False, scripts=True):
        return Page(self, width, height, dark, scripts)


class Page:
    def __init__(self, browser, width, height, dark, scripts):
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target,
                                     flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Runtime.enable")
        self._call("Log.enable")
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                   deviceScaleFactor=1, mobile=False)
        self._call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self._call("Emulation.setScrollbarsHidden", hidden=True)
        if not scripts:
            self._call("Emulation.setScriptExecutionDisabled", value=True)

    def _call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def go(self, url):
        result = self._call("Page.navigate", url=url)
        if "errorText" in result:
            raise RuntimeError(f"{url}: {result['errorText']}")
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression):
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True,
                            awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression):
        give_up = time.monotonic() + SECONDS_MAX
        while True:
            try:
                if self.evaluate(expression):
                    return
            except RuntimeError:  # the page is on its way to another one
                pass
            if time.monotonic() > give_up:
                raise AssertionError(f"never true: {expression}\n{self.text()}")
            time.sleep(0.05)

    def text(self):
        return self.evaluate("document.body.innerText")

    def complaints(self):
        """What a browser's console would show in red: errors, and what the page's policy refused."""
        self.evaluate("0")  # whatever came before has come
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            entry = event["params"].get("entry", {})
            if event["method"] == "Runtime.exceptionThrown" or entry.get("level") == "error":
                found.append(json.dumps(event["params"]))
        return found

    def screenshot(self, name):
        """Of the whole page, to NAME.png in the browser's folder."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        image = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                           clip={"x": 0, "y": 0, "width": size["width"],
                                 "height": min(size["height"], 4000), "scale": 1})
        os.makedirs(self._browser.folder, exist_ok=True)
        path = os.path.join(self._browser.folder, f"{name}.png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(image["data"]))
        return path
