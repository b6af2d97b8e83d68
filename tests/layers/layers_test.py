# SPDX-License-Identifier: Apache-2.0
"""layers.py over small trees that each break one rule, and over the repository itself."""
import pathlib
import tempfile
import unittest

import layers

PAGE = '''
### Folders
| folder | without | what |
|---|---|---|
| `plugin_api/` | | the ABI |
| `host/low/` | | low |
| `host/side/` | `host/low/` | beside low |
| `host/` | | top |

### Only there
| what | where | why |
|---|---|---|
| `dlopen(` | `host/low/loader` | one place |
| `<grpc` | `host/side/` | one folder |

### `host/low/`
| `loader` | loads |

### `host/side/`
| `side` | beside |

### `host/`
| `main` | top |
'''


class Layers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        self.write('ARCHITECTURE.md', PAGE)
        self.write('plugin_api/callout/plugin.h', '')
        self.write('host/low/loader.h', '// Tested by tests/all.cc.\n')
        self.write('host/low/loader.cc', '#include "host/low/loader.h"\nvoid f() { dlopen(0, 0); }\n')
        self.write('host/side/side.cc', '// Tested by tests/all.cc.\n#include <grpc/grpc.h>\n')
        self.write('host/main.cc', '#include <callout/plugin.h>\n#include "host/low/loader.h"\n')
        self.write('tests/all.cc', '')
        self.write('tests/host/main_test.cc', '')

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def faults(self):
        return list(layers.check(self.root))

    def assert_fault(self, *parts):
        faults = self.faults()
        self.assertEqual(len(faults), 1, faults)
        for part in parts:
            self.assertIn(part, faults[0])

    def test_accepts_a_tree_that_keeps_the_rules(self):
        self.assertEqual(self.faults(), [])

    def test_refuses_an_include_of_a_folder_below(self):
        self.write('host/low/loader.h', '// Tested by tests/all.cc.\n#include "host/side/side.h"\n')
        self.assert_fault('host/low/loader.h:2: host/low/ may not include host/side/')

    def test_refuses_the_host_in_plugin_api(self):
        self.write('plugin_api/callout/plugin.h', '#include "host/low/loader.h"\n')
        self.assert_fault('plugin_api/callout/plugin.h:1: plugin_api/ may not include host/low/')

    def test_refuses_an_include_that_the_table_takes_out(self):
        self.write('host/side/side.cc', '// Tested by tests/all.cc.\n#include "host/low/loader.h"\n')
        self.assert_fault('host/side/side.cc:2: host/side/ may not include host/low/')

    def test_refuses_a_module_that_the_map_lacks(self):
        self.write('host/low/new.cc', '// Tested by tests/all.cc.\n')
        self.assert_fault('host/low/new.cc:1:', 'not in ARCHITECTURE.md')

    def test_refuses_a_module_of_the_map_that_is_gone(self):
        (self.root / 'host/side/side.cc').unlink()
        self.assert_fault('ARCHITECTURE.md:', 'host/side/side')

    def test_refuses_a_module_without_a_test(self):
        (self.root / 'tests/host/main_test.cc').unlink()
        self.assert_fault('host/main.cc:1:', 'tests/host/main_test.cc')

    def test_refuses_a_module_that_names_a_test_that_is_gone(self):
        (self.root / 'tests/all.cc').unlink()
        self.assertEqual(len(self.faults()), 2)

    def test_refuses_what_stands_only_elsewhere(self):
        self.write('host/main.cc', '// dlopen() in a comment and "dlopen(" in a text are none.\n'
                   'int x = dlopen (0), y = f("dlopen("), z = dlopen(0);\n#include <grpc/grpc.h>\n')
        faults = self.faults()
        self.assertEqual([fault.split(' ')[0] for fault in faults], ['host/main.cc:2:', 'host/main.cc:3:'])

    def test_refuses_a_page_without_its_tables(self):
        self.write('ARCHITECTURE.md', '# Nothing\n')
        self.assert_fault('ARCHITECTURE.md:1:')

    def test_holds_for_this_repository(self):
        root = pathlib.Path(__file__).resolve().parents[2]
        self.assertEqual('\n'.join(layers.check(root)), '')


if __name__ == '__main__':
    unittest.main()
