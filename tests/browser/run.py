#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The admin page in a real browser: what a person sees, and what pages of strangers can do to it.

    run.py --build BUILD [--screenshots FOLDER]

Ends with 77, for "skipped", without a Chromium (Debian: chromium-headless-shell). scripts/check --full
runs it; the screenshots are for people to look at."""

import argparse
import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import browser

SKIPPED = 77
SECONDS_MAX = 60


class Host:
    def __init__(self, build, *arguments):
        self.log = tempfile.NamedTemporaryFile("w+", prefix="callout-browser-host-")
        command = [os.path.join(build, "host", "callout-host"), "--plugin_permissions=off",
                   "--plaintext_address=127.0.0.1:0", "--secure_address=127.0.0.1:0",
                   "--combined_health_check", "--admin_address=127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.url = f"http://{self.address('admin')}/"

    def text(self):
        with open(self.log.name) as file:
            return file.read()

    def wait_for(self, text):
        give_up = time.monotonic() + SECONDS_MAX
        while text not in self.text():
            assert time.monotonic() < give_up and self.process.poll() is None, self.text()
            time.sleep(0.02)

    def address(self, listener):
        self.wait_for("serving with")
        return re.search(rf"listening {listener} (\S+:\d+)$", self.text(), re.MULTILINE)[1]

    def stop(self):
        self.process.terminate()
        self.process.wait(SECONDS_MAX)


class Load:
    """callout-client, again and again."""

    def __init__(self, build, host, request):
        self._stop = threading.Event()
        command = [os.path.join(build, "host", "callout-client"),
                   host.address("plaintext"), "--plaintext", "--data", "@-"]

        def run():
            while not self._stop.is_set():
                subprocess.run(command, input=request.encode(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, check=False)

        self._threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


class AdminPage(unittest.TestCase):
    options = None  # of the command line

    @classmethod
    def setUpClass(cls):
        cls.browser = browser.Browser(cls.options.screenshots)

    @classmethod
    def tearDownClass(cls):
        cls.browser.__exit__()

    def plugin(self, name):
        return os.path.join(self.options.build, "plugins", f"{name}.so")

    def start(self, *arguments):
        self.host = Host(self.options.build, *arguments)
        self.addCleanup(self.host.stop)

    def open(self, **options):
        page = self.browser.page(**options)
        page.go(self.host.url)
        return page

    def load(self, path="/"):
        request = ('{"request_headers": {"headers": {"headers": ['
                   '{"key": ":method", "value": "GET"}, {"key": ":path", "value": "%s"}]}}}' % path)
        load = Load(self.options.build, self.host, request)
        self.addCleanup(load.stop)
        return load

    def test_an_empty_host(self):
        self.start()
        page = self.open()
        page.wait("document.querySelector('#refresh input') !== null")
        self.assertIn("No plugins: all messages pass unchanged.", page.text())
        self.assertIn("self-signed at the start", page.text())
        page.screenshot("empty")
        self.assertEqual(page.complaints(), [])

    def test_a_busy_host_is_drawn_by_itself(self):
        self.start(f"--plugin=first={self.plugin('basic')}", f"--plugin=second={self.plugin('typed_basic')}")
        self.load()
        page = self.open()
        # Without a reload: the script fetches it.
        page.wait("document.querySelectorAll('.tile polyline').length === 4 &&"
                  " document.querySelector('.tile polyline').points.length > 3")
        page.wait("/[1-9][0-9.]* calls\\/s/.test(document.body.innerText)")
        page.evaluate("document.querySelector('details').open = true")
        page.wait("[...document.querySelectorAll('td')].some(td => td.innerText === 'request_headers')")
        page.screenshot("busy")
        self.assertEqual(page.complaints(), [])

    def test_details_stay_open_over_a_refresh(self):
        self.start(f"--plugin={self.plugin('basic')}")
        page = self.open()
        page.wait("document.querySelector('#refresh input') !== null")
        page.evaluate("document.querySelector('details').open = true;"
                      " document.querySelector('main').dataset.old = 'yes';"
                      " document.querySelector('#status').dataset.old = 'yes'; 0")
        page.wait("document.querySelector('main').dataset.old === undefined")
        self.assertIsNone(page.evaluate("document.querySelector('#status').dataset.old"))
        self.assertTrue(page.evaluate("document.querySelector('details').open"))

    def test_a_broken_plugin(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        good = os.path.join(folder.name, "waf.so")
        shutil.copy(self.plugin("basic"), good)
        with open(os.path.join(folder.name, "broken.so"), "w") as file:
            file.write("not a shared object")
        self.start(f"--plugins_dir={folder.name}", "--admin_writes=on")
        with open(f"{good}.new", "w") as file:
            file.write("<script>alert(1)</script> is no shared object either")
        os.rename(f"{good}.new", good)
        page = self.open()
        page.wait("document.body.innerText.includes('serving an older version')")
        self.assertIn("Problems", page.text())
        self.assertIn("a stand-in answers", page.text())
        page.screenshot("broken")
        self.assertEqual(page.evaluate("document.querySelectorAll('main script, main b:not(.tile b)').length"), 0)
        self.assertEqual(page.complaints(), [])

    def test_a_narrow_window_has_no_sideways_scroll(self):
        self.start(f"--plugin=a-plugin-with-quite-a-long-name={self.plugin('basic')}")
        page = self.open(width=360, height=740)
        page.screenshot("narrow")
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), 360)

    def test_dark_mode(self):
        self.start(f"--plugin={self.plugin('basic')}")
        dark, light = self.open(dark=True), self.open()
        color = "getComputedStyle(document.body).backgroundColor"
        self.assertEqual(light.evaluate(color), "rgb(255, 255, 255)")
        self.assertLess(sum(map(int, re.findall(r"\d+", dark.evaluate(color)))), 150)
        dark.screenshot("dark")

    def test_it_reads_without_javascript(self):
        self.start(f"--plugin={self.plugin('basic')}")
        page = self.open(scripts=False)
        self.assertIn("refreshes every 5 s", page.text())
        self.assertIn("serving", page.text())

    def test_the_page_changes_the_log_level(self):
        self.start("--admin_writes=on")
        page = self.open()
        page.evaluate("document.querySelector('select').value = 'debug';"
                      " document.querySelector('form[action=\"/actions/log_level\"] button').click()")
        self.host.wait_for("admin: log level debug: done")
        page.wait("location.hash === '#actions' &&"
                  " document.body.innerText.includes('log level debug')")
        page.screenshot("changed")
        self.assertEqual(page.complaints(), [])

    def test_a_strangers_page_changes_nothing(self):
        self.start("--admin_writes=on")
        target = self.host.url
        attack = f"""<!doctype html><iframe name=f></iframe>
            <form method=post target=f action="{target}actions/drain"></form>
            <script>document.forms[0].submit();
            fetch("{target}actions/drain", {{method: "POST", mode: "no-cors", body: new URLSearchParams()}});
            fetch("{target}", {{headers: {{Accept: "text/html"}}}}).then(
                r => r.text()).then(t => document.title = "read", () => document.title = "refused");
            </script>"""

        class Stranger(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(attack.encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        page = self.browser.page()
        # Another name is another site.
        page.go(f"http://localhost:{server.server_port}/")
        page.wait("document.title !== ''")
        self.assertEqual(page.evaluate("document.title"), "refused")
        check = self.browser.page()
        check.go(target + "metrics")
        check.wait("/callout_admin_refused_total.reason=.cross_site.. [1-9]/.test(document.body.innerText)"
                   " || (location.reload(), false)")
        self.assertNotIn("draining", self.host.text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--screenshots", default="build/browser")
    AdminPage.options, rest = parser.parse_known_args()
    if browser.program() is None:
        print("skipped: no Chromium; apt-get install chromium-headless-shell")
        sys.exit(SKIPPED)
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
