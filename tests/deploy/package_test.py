#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scripts/package makes: twice the same, complete, and running where there is nothing else.

    package_test.py BUILD_DIRECTORY

The image's and the package's trees are entered with chroot, which only root can; others skip these tests.
"""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv[1]).resolve()
TOP = pathlib.Path(__file__).resolve().parents[2]
IMAGE_BYTES_MAX = 30 << 20  # unpacked


def output(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, **more).stdout


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.work)
        for name in ('first', 'second'):
            made = subprocess.run([TOP / 'scripts/package', f'--build={BUILD}', f'--out={cls.work / name}'],
                                  capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stdout + made.stderr
        cls.files = {path.name: path for path in (cls.work / 'first').iterdir()}

    def file(self, suffix):
        found = [path for name, path in self.files.items() if name.endswith(suffix)]
        self.assertEqual(len(found), 1, f'{suffix} in {sorted(self.files)}')
        return found[0]

    def unpacked_image(self):
        """The image's tree and its configuration."""
        layout = self.work / 'layout'
        root = self.work / 'image'
        if not root.exists():
            layout.mkdir()
            output('tar', '-xf', str(self.file('.oci.tar')), '-C', str(layout))
            root.mkdir()

        def blob(descriptor):
            data = (layout / 'blobs' / descriptor['digest'].replace(':', '/')).read_bytes()
            self.assertEqual(len(data), descriptor['size'])
            self.assertEqual('sha256:' + hashlib.sha256(data).hexdigest(), descriptor['digest'])
            return data

        manifest = json.loads(blob(json.loads((layout / 'index.json').read_text())['manifests'][0]))
        packed = self.work / 'layer.tar.gz'
        packed.write_bytes(blob(manifest['layers'][0]))
        output('tar', '-xzf', str(packed), '-C', str(root))
        return root, json.loads(blob(manifest['config']))

    def test_is_the_same_when_it_is_made_again(self):
        for name, path in self.files.items():
            self.assertEqual(path.read_bytes(), (self.work / 'second' / name).read_bytes(), name)
        self.assertEqual(len(self.files), 6, sorted(self.files))

    def test_the_checksums_are_those_of_all_files(self):
        listed = output('sha256sum', '--check', 'SHA256SUMS', cwd=self.work / 'first').splitlines()
        self.assertEqual(len(listed), len(self.files) - 1)

    def test_the_image_runs_without_anything_else(self):
        root, config = self.unpacked_image()
        self.assertEqual(config['config']['User'], '65532:65532')
        self.assertEqual(config['config']['Healthcheck']['Test'][1:], ['/usr/bin/callout-host', '--probe'])
        size = sum(path.lstat().st_size for path in root.rglob('*') if path.is_file())
        self.assertLess(size, IMAGE_BYTES_MAX)
        programs = [path.relative_to(root).as_posix() for path in root.rglob('bin/*')]
        self.assertEqual(programs, ['usr/bin/callout-host'])
        if os.geteuid() != 0:
            self.skipTest('chroot needs root')
        user = ['chroot', '--userspec=65532:65532', str(root), '/usr/bin/callout-host']
        self.assertIn('callout-host 0.', output(*user, '--version'))
        shutil.copy(BUILD / 'plugins/basic.so', root / 'plugins')
        checked = output(*user, '--plugins_dir=/plugins', '--check', '--transport=nghttp2')
        self.assertIn('plugin basic\n', checked)

    def test_the_package_holds_what_its_unit_starts(self):
        root = self.work / 'deb'
        output('dpkg-deb', '--extract', str(self.file(f'_{output("dpkg", "--print-architecture").strip()}.deb')),
               str(root))
        unit = (root / 'usr/lib/systemd/system/callout-host.service').read_text()
        start = [line for line in unit.splitlines() if line.startswith('ExecStart=')][0].split('=', 1)[1].split()
        config = start[1].split('=')[1]
        self.assertTrue((root / config.lstrip('/')).is_file(), config)
        plugins = self.work / 'plugins'
        plugins.mkdir(mode=0o755)
        shutil.copy(BUILD / 'plugins/basic.so', plugins)
        checked = output(str(root / start[0].lstrip('/')), f'--config={root / config.lstrip("/")}',
                         f'--plugins_dir={plugins}', '--check')
        self.assertIn('plugin basic\n', checked)

    def test_the_package_names_the_libraries_that_the_program_needs(self):
        deb = str(self.file(f'_{output("dpkg", "--print-architecture").strip()}.deb'))
        depends = output('dpkg-deb', '--field', deb, 'Depends')
        for library in ('libc6', 'libyaml-cpp0.7', 'libnghttp2-14', 'libssl3'):
            self.assertIn(library, depends)
        self.assertEqual(output('dpkg-deb', '--field', deb, 'Version'), output(
            str(BUILD / 'host/callout-host'), '--version').split()[1] + '\n')

    def test_a_plugin_is_compiled_with_the_package_of_headers(self):
        root = self.work / 'dev'
        output('dpkg-deb', '--extract', str(self.file('_all.deb')), str(root))
        include = next(root.rglob('callout/plugin.h')).parent.parent
        source = self.work / 'hello.c'
        source.write_text('#include <callout/plugin.h>\nCALLOUT_PLUGIN();\n')
        output('cc', '-shared', '-fPIC', '-I', str(include), str(source), '-o', str(self.work / 'hello.so'))

    def test_the_bill_of_materials_has_every_library_of_the_image(self):
        bom = json.loads(self.file('.cdx.json').read_text())
        self.assertEqual((bom['bomFormat'], bom['specVersion']), ('CycloneDX', '1.5'))
        names = {component['name'] for component in bom['components']}
        self.assertLessEqual({'libc6', 'libssl3', 'libyaml-cpp0.7'}, names)
        self.assertTrue(all(component['purl'].startswith('pkg:deb/debian/') for component in bom['components']))


if __name__ == '__main__':
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
