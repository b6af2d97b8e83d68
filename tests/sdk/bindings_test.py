#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/sdk-bindings says which extension of the headers an SDK does not have."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = '''#include <callout/plugin.h>
#define CALLOUT_COMPASS "callout.compass/1"
typedef struct callout_compass {
  uint32_t struct_size;
  uint32_t reserved;
  callout_status_t (*point)(const callout_call_t* call, char to[CALLOUT_ABI_VERSION]);
} callout_compass_t;
'''


class Bindings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name) / 'a tree'
        for part in ('plugin_api/callout', 'plugin_api/rust/callout/src', 'plugin_api/go'):
            shutil.copytree(ROOT / part, self.root / part)
        (self.root / 'scripts').mkdir()
        self.script = shutil.copy(ROOT / 'scripts' / 'sdk-bindings', self.root / 'scripts')

    def run_script(self, *options):
        done = subprocess.run([sys.executable, self.script, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def test_the_sdks_have_every_extension(self):
        status, printed = self.run_script('--check')
        self.assertEqual(status, 0, printed)

    def test_a_header_that_is_not_read_is_told(self):
        (self.root / 'plugin_api/callout/compass.h').write_text(HEADER)
        status, printed = self.run_script('--check')
        self.assertEqual(status, 1)
        self.assertIn('compass.h has the extension callout.compass/1: add it to HEADERS', printed)

    def test_an_sdk_without_the_extension_is_told(self):
        (self.root / 'plugin_api/callout/compass.h').write_text(HEADER)
        text = pathlib.Path(self.script).read_text()
        pathlib.Path(self.script).write_text(text.replace("'trace.h']", "'trace.h', 'compass.h']"))
        for options in ((), ('--check',)):  # the files are written all the same
            status, printed = self.run_script(*options)
            self.assertEqual(status, 1)
            self.assertIn('the Rust SDK does not have callout.compass/1 of compass.h', printed)
            self.assertIn('its fake host does not have callout.compass/1', printed)
            self.assertIn('the Go SDK does not have callout.compass/1 of compass.h: plugin_api/go/abi.h does not use CALLOUT_COMPASS', printed)
            self.assertNotIn('is not what the headers say', printed)
        header = (self.root / 'plugin_api/go/callout_abi.h').read_text()
        self.assertIn('callout_compass_t;', header)

    def test_files_that_differ_are_told(self):
        path = self.root / 'plugin_api/go/callout_abi.h'
        path.write_text(path.read_text().replace('uint32_t', 'uint16_t'))
        status, printed = self.run_script('--check')
        self.assertEqual(status, 1)
        self.assertIn('plugin_api/go/callout_abi.h is not what the headers say', printed)


if __name__ == '__main__':
    unittest.main()
