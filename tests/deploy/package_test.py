#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scripts/package makes: twice the same, complete, and running where there is nothing else.

    package_test.py BUILD_DIRECTORY

The image's tree is entered with chroot, which only root can; others skip this test. MESON_EXE_WRAPPER runs what
was built for another machine, and has its libraries from the image's tree (-L).
"""
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv[1]).resolve()
TOP = pathlib.Path(__file__).resolve().parents[2]
VENV = TOP / '.venv'  # with protobuf, where Debian's python3-protobuf is missing
PYTHON = BUILD / 'plugins/python.so'
WRAPPER = shlex.split(os.environ.get('MESON_EXE_WRAPPER', ''))
# Unpacked, with the libraries of Debian 12. Debian 13's take 4 MiB more.
IMAGE_BYTES_MAX = (30 if platform.freedesktop_os_release().get('VERSION_ID') == '12' else 40) << 20


def output(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, **more).stdout


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.work)
        for name in ('first', 'second'):
            made = subprocess.run([TOP / 'scripts/package', f'--build={BUILD}', f'--out={cls.work / name}',
                                   '--maintainer=Somebody <somebody@debian.org>'],
                                  capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stdout + made.stderr
        cls.files = {path.name: path for path in (cls.work / 'first').iterdir()}

    def file(self, suffix):
        found = [path for name, path in self.files.items() if name.endswith(suffix)]
        self.assertEqual(len(found), 1, f'{suffix} in {sorted(self.files)}')
        return found[0]

    def package(self, name):
        found = [path for path in self.files.values() if path.name.startswith(f'{name}_') and path.suffix == '.deb']
        self.assertEqual(len(found), 1, f'{name} in {sorted(self.files)}')
        return found[0]

    def host_package(self):
        return self.package('callout-host')

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
        self.assertEqual(len(self.files), 7 if PYTHON.exists() else 6, sorted(self.files))

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
        user = ['chroot', '--userspec=65532:65532', str(root), '/usr/bin/callout-host']
        plugins = '/plugins'
        if WRAPPER:
            user = [WRAPPER[0], '-L', str(root), str(root / 'usr/bin/callout-host')]
            plugins = str(root / 'plugins')
        elif os.geteuid() != 0:
            self.skipTest('chroot needs root')
        self.assertIn('callout-host 0.', output(*user, '--version'))
        shutil.copy(BUILD / 'plugins/basic.so', root / 'plugins')
        checked = output(*user, f'--plugins_dir={plugins}', '--check', '--transport=nghttp2')
        self.assertIn('plugin basic\n', checked)

    def test_the_package_holds_what_its_unit_starts(self):
        root = self.work / 'deb'
        output('dpkg-deb', '--extract', str(self.host_package()), str(root))
        unit = (root / 'usr/lib/systemd/system/callout-host.service').read_text()
        start = [line for line in unit.splitlines() if line.startswith('ExecStart=')][0].split('=', 1)[1].split()
        config = start[1].split('=')[1]
        self.assertTrue((root / config.lstrip('/')).is_file(), config)
        plugins = self.work / 'plugins'
        plugins.mkdir(mode=0o755)
        shutil.copy(BUILD / 'plugins/basic.so', plugins)
        checked = output(*WRAPPER, str(root / start[0].lstrip('/')), f'--config={root / config.lstrip("/")}',
                         f'--plugins_dir={plugins}', '--check')
        self.assertIn('plugin basic\n', checked)

    def test_each_program_of_the_package_has_a_manual_page(self):
        deb = self.host_package()
        listed = {line.split()[-1] for line in output('dpkg-deb', '--contents', str(deb)).splitlines()}
        programs = [pathlib.PurePath(path).name for path in listed if path.startswith('./usr/bin/c')]
        self.assertGreaterEqual(len(programs), 2)
        for program in programs:
            self.assertIn(f'./usr/share/man/man1/{program}.1.gz', listed)

    def test_the_package_names_the_libraries_that_the_program_needs(self):
        deb = str(self.host_package())
        depends = output('dpkg-deb', '--field', deb, 'Depends')
        for library in ('libc6', 'libyaml-cpp0', 'libnghttp2-14', 'libssl3'):  # as their names begin
            self.assertIn(library, depends)
        self.assertEqual(output('dpkg-deb', '--field', deb, 'Version'), output(
            *WRAPPER, str(BUILD / 'host/callout-host'), '--version').split()[1] + '\n')

    def test_a_plugin_is_compiled_with_the_package_of_headers(self):
        root = self.work / 'dev'
        output('dpkg-deb', '--extract', str(self.file('_all.deb')), str(root))
        include = next(root.rglob('callout/plugin.h')).parent.parent
        source = self.work / 'hello.c'
        source.write_text('#include <callout/plugin.h>\nCALLOUT_PLUGIN();\n')
        output('cc', '-shared', '-fPIC', '-I', str(include), str(source), '-o', str(self.work / 'hello.so'))

    def test_the_package_for_authors_has_the_sdks_and_the_loop(self):
        root = self.work / 'authors'
        output('dpkg-deb', '--extract', str(self.package('callout-plugin-dev')), str(root))
        share = root / 'usr/share/callout'
        for path in ('rust/Cargo.toml', 'rust/Cargo.lock', 'rust/callout/src/raw.rs', 'rust/callout-macros/src/lib.rs', 'go/go.mod',
                     'go/callout_abi.h', 'go/cmd/callout-build/main.go'):
            self.assertTrue((share / path).is_file(), path)
        self.assertFalse((share / 'rust/target').exists())
        self.assertIn('PLUGIN_DIR', output(str(root / 'usr/bin/callout-dev'), '--help'))
        self.assertTrue((root / 'usr/share/man/man1/callout-dev.1.gz').is_file())

    def test_a_script_is_run_by_the_package_of_python(self):
        if not PYTHON.exists():
            self.skipTest('plugins/python is not built')
        root = self.work / 'python'
        deb = str(self.package('callout-plugin-python'))
        output('dpkg-deb', '--extract', deb, str(root))
        depends = output('dpkg-deb', '--field', deb, 'Depends')
        for library in ('libc6', 'libpython3.', 'python3-protobuf'):
            self.assertIn(library, depends)
        script = self.work / 'server.py'
        script.write_text('from extproc.service.callout_server import CalloutServer\n'
                          'from extproc.service.callout_tools import add_header_mutation\n'
                          'class Server(CalloutServer):\n'
                          '    def on_request_headers(self, headers, context):\n'
                          '        return add_header_mutation(add=[("x-seen", "1")])\n')
        config = json.dumps({'script': str(script), **({'venv': str(VENV)} if VENV.exists() else {})})
        plugin = next(root.rglob('python.so'))
        run_path = output('readelf', '--dynamic', str(plugin))
        self.assertIn(f':/{plugin.parent.relative_to(root)}/python/packages]', run_path)
        checked = output(str(BUILD / 'host/callout-host'), '--check', '--transport=nghttp2', f'--plugin={plugin}',
                         f'--plugin_config=python={config}')
        self.assertIn('plugin python\n', checked)
        self.assertIn('the configuration is good\n', checked)

    def test_lintian_finds_nothing(self):
        if not shutil.which('lintian'):
            self.skipTest('there is no lintian')
        debs = [str(path) for path in self.files.values() if path.suffix == '.deb']
        made = subprocess.run(['lintian', '--allow-root', '--fail-on', 'error,warning', *debs], capture_output=True, text=True,
                              check=False, timeout=300)
        self.assertEqual(made.returncode, 0, made.stdout + made.stderr)

    def test_the_bill_of_materials_has_every_library_of_the_image(self):
        bom = json.loads(self.file('.cdx.json').read_text())
        self.assertEqual((bom['bomFormat'], bom['specVersion']), ('CycloneDX', '1.5'))
        names = {component['name'] for component in bom['components']}
        for library in ('libc6', 'libssl3', 'libyaml-cpp0'):  # as their names begin
            self.assertTrue(any(name.startswith(library) for name in names), f'{library} in {sorted(names)}')
        self.assertTrue(all(component['purl'].startswith('pkg:deb/debian/') for component in bom['components']))

    def test_all_of_it_says_which_machine_it_is_for(self):
        program = BUILD / 'host/callout-host'
        machine = re.search(r'Machine: .*(X86-64|AArch64)', output('readelf', '--file-header', str(program)))[1]
        debian = {'X86-64': 'amd64', 'AArch64': 'arm64'}[machine]
        self.assertEqual(output('dpkg-deb', '--field', str(self.host_package()), 'Architecture'), f'{debian}\n')
        root, config = self.unpacked_image()
        self.assertEqual(config['architecture'], debian)
        for file in [root / 'usr/bin/callout-host', *root.rglob('*.so.*')]:
            self.assertIn(machine, output('readelf', '--file-header', str(file)), file)
        bom = json.loads(self.file('.cdx.json').read_text())
        self.assertTrue(all(part['purl'].endswith(f'?arch={debian}') for part in bom['components']))


@unittest.skipIf(WRAPPER, 'scripts/package-plugin asks this machine\'s host')
class PluginPackage(unittest.TestCase):
    """scripts/package-plugin, and what a host with --plugin_keys takes of it."""

    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.work)
        for key in ('ours', 'theirs'):
            output('minisign', '-G', '-W', '-p', f'{key}.pub', '-s', f'{key}.key', cwd=cls.work)
        (cls.work / 'schema.c').write_text('#include <callout/plugin.h>\nCALLOUT_PLUGIN();\n'
                                           'callout_status_t callout_on_request_headers(callout_call_t *call) {\n'
                                           '  (void)call;\n  return CALLOUT_OK;\n}\n'
                                           'const char callout_plugin_config_schema[] = "{\\"type\\": \\"object\\"}";\n')
        output('cc', '-shared', '-fPIC', '-I', str(TOP / 'plugin_api'), 'schema.c', '-o', 'schema.so', cwd=cls.work)
        for name in ('first', 'second'):
            made = subprocess.run([TOP / 'scripts/package-plugin', f'--build={BUILD}', f'--out={name}', '--key=ours.key',
                                   BUILD / 'plugins/basic.so', 'schema.so'],
                                  cwd=cls.work, capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stdout + made.stderr

    def check(self, *options):
        return subprocess.run([BUILD / 'host/callout-host', '--check', '--transport=nghttp2', *options], cwd=self.work,
                              capture_output=True, text=True, check=False, timeout=300)

    def package(self, *arguments):
        return subprocess.run([TOP / 'scripts/package-plugin', f'--build={BUILD}', *arguments], cwd=self.work,
                              capture_output=True, text=True, check=False, timeout=300)

    def test_out_may_be_an_absolute_path(self):
        out = self.work / 'absolute'
        made = self.package(f'--out={out}', 'schema.so')
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertTrue((out / 'schema.so.json').exists(), made.stdout)

    def test_two_plugins_of_one_name_are_refused(self):
        made = self.package('--out=twice', 'schema.so', 'first/schema.so')
        self.assertEqual(made.returncode, 1, made.stdout)
        self.assertIn('several plugins are named schema.so; rename all but one', made.stderr)
        self.assertFalse((self.work / 'twice').exists())

    def test_is_the_same_when_it_is_made_again(self):
        names = sorted(path.name for path in (self.work / 'first').iterdir())
        self.assertEqual(len(names), 9, names)
        for name in names:
            self.assertEqual((self.work / 'first' / name).read_bytes(), (self.work / 'second' / name).read_bytes(), name)

    def test_a_manifest_says_what_its_plugin_is(self):
        manifest = json.loads((self.work / 'first/basic.so.json').read_text())
        code = (self.work / 'first/basic.so').read_bytes()
        self.assertEqual(manifest['sha256'], hashlib.sha256(code).hexdigest())
        self.assertEqual((manifest['name'], manifest['version'], manifest['abi']), ('basic', '1.0.0', 1))
        self.assertIn('callout_on_request_headers', manifest['hooks'])
        schema = json.loads((self.work / 'first/schema.so.json').read_text())['config_schema']
        self.assertEqual(schema, {'type': 'object'})

    def test_minisign_verifies_the_signatures(self):
        for name in ('basic.so', 'basic.so.json', 'schema.so'):
            shown = output('minisign', '-V', '-p', 'ours.pub', '-m', f'first/{name}', cwd=self.work)
            self.assertIn('Trusted comment: ', shown)

    def test_the_image_has_the_files_in_its_top_directory(self):
        layout = self.work / 'layout'
        layout.mkdir()
        output('tar', '-xf', 'first/plugins.oci.tar', '-C', 'layout', cwd=self.work)
        index = json.loads((layout / 'index.json').read_text())
        read = lambda descriptor: (layout / 'blobs' / descriptor['digest'].replace(':', '/')).read_bytes()
        manifest = json.loads(read(index['manifests'][0]))
        (self.work / 'layer.tar.gz').write_bytes(read(manifest['layers'][0]))
        listed = output('tar', '-tzf', 'layer.tar.gz', cwd=self.work).split()
        self.assertEqual(listed, sorted(path.name for path in (self.work / 'first').iterdir()
                                        if path.name != 'plugins.oci.tar'))

    def test_the_host_loads_what_the_key_has_signed(self):
        directory = self.work / 'directory'
        directory.mkdir()
        for name in ('basic.so', 'basic.so.minisig'):
            shutil.copy(self.work / 'first' / name, directory)
        for option in ('--plugin=first/basic.so', '--plugins_dir=directory'):
            checked = self.check('--plugin_keys=theirs.pub', '--plugin_keys=ours.pub', option)
            self.assertRegex(checked.stdout, r'plugin basic\n(  .*\n)+  signed by    [0-9A-F]{16}\n', checked.stderr)

    def test_the_host_refuses_what_no_key_has_signed(self):
        plugin = self.work / 'changed.so'
        for name, code, signature, key, why in (
                ('unsigned', b'', None, 'ours', 'changed.so.minisig does not exist; sign it with minisign -S -m '),
                ('another key', b'', 'basic', 'theirs', 'which is not one of --plugin_keys'),
                ('changed', b'\0', 'basic', 'ours', 'the file was changed after it was signed'),
                ('of another file', b'', 'schema', 'ours', 'the file was changed after it was signed')):
            with self.subTest(name):
                plugin.write_bytes((self.work / 'first/basic.so').read_bytes() + code)
                there = self.work / 'changed.so.minisig'
                there.unlink(missing_ok=True)
                if signature:
                    shutil.copy(self.work / f'first/{signature}.so.minisig', there)
                checked = self.check(f'--plugin_keys={key}.pub', f'--plugin={plugin}')
                self.assertEqual(checked.returncode, 2, checked.stdout)
                self.assertIn(why, checked.stderr)
                self.assertEqual(checked.stderr.count('\n'), 1, checked.stderr)

    def test_keys_that_everybody_may_change_end_the_start(self):
        keys = self.work / 'open.pub'
        shutil.copy(self.work / 'ours.pub', keys)
        keys.chmod(0o666)
        checked = self.check('--plugin_keys=open.pub', '--plugin=first/basic.so')
        self.assertEqual(checked.returncode, 2, checked.stdout)
        self.assertIn('--plugin_keys=open.pub: ', checked.stderr)
        self.assertIn('or give --plugin_permissions=warn', checked.stderr)
        warned = self.check('--plugin_keys=open.pub', '--plugin=first/basic.so', '--plugin_permissions=warn')
        self.assertEqual(warned.returncode, 0, warned.stderr)
        self.assertIn('warning: --plugin_keys=open.pub: ', warned.stdout)

    def test_a_file_that_is_no_key_ends_the_start(self):
        checked = self.check('--plugin_keys=ours.key', '--plugin=first/basic.so')
        self.assertEqual(checked.returncode, 2)
        self.assertIn('--plugin_keys=ours.key: line 2 is no public key of minisign', checked.stderr)


if __name__ == '__main__':
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
