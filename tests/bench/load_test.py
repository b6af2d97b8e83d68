# SPDX-License-Identifier: Apache-2.0
"""load_test.py BENCH_LOAD HOST PLUGIN: what the load generator does beside timing, on a host behind a unix
socket. PLUGIN is plugins/basic, which replaces bodies."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

LOAD, HOST, PLUGIN = sys.argv[1:]


class Load(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="load-")  # a socket's path must be short
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "socket")

    def host(self, *options):
        process = subprocess.Popen(
            [HOST, f"--plaintext_address=unix:{self.path}", "--disable_tls", "--combined_health_check",
             "--admin_address=off", *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        for line in process.stderr:
            if "INFO serving" in line:
                return
        self.fail("the host does not serve")

    def load(self, *options):
        return subprocess.run([LOAD, f"--unix={self.path}", "--connections=3", "--concurrency=3", *options],
                              capture_output=True, text=True, timeout=60)

    def test_it_makes_as_many_streams_as_it_is_told(self):
        self.host()
        for ending in ("graceful", "envoy"):
            for streams in (2, 25):
                with self.subTest(ending=ending, streams=streams):
                    done = self.load(f"--streams={streams}", f"--ending={ending}")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    result = json.loads(done.stdout)
                    self.assertEqual([result["streams"], result["errors"]], [streams, 0])
                    self.assertTrue(0 < result["p50_us"] <= result["p99_us"] <= result["p999_us"], result)

    def test_it_sends_bodies_of_any_size_in_each_mode(self):
        self.host("--early_end=off")
        for mode in ("buffered", "streamed", "duplex"):
            for size in (1, 65536, 200000):
                with self.subTest(mode=mode, size=size):
                    done = self.load("--streams=4", f"--scenario={mode}", f"--body_bytes={size}")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertEqual(json.loads(done.stdout)["streams"], 4)

    def test_it_sees_that_a_chunk_is_not_repeated(self):
        self.host("--early_end=off", f"--plugin={PLUGIN}")
        self.assertEqual(self.load("--streams=4", "--scenario=streamed").returncode, 0)
        done = self.load("--streams=4", "--scenario=duplex")
        self.assertEqual(done.returncode, 1)
        self.assertIn("it repeats 13 bytes of the body instead of 65536", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
