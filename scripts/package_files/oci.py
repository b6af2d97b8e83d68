#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes an OCI image of the host and its libraries, and nothing else, or of plugins; no daemon is needed.

    oci.py --host=FILE --version=V --arch=A --out=IMAGE.oci.tar --bom=FILE.cdx.json [--packages=DIR --run=COMMAND]
    oci.py --files --arch=A --out=IMAGE.oci.tar FILE...     these files, in the top directory

The image is an OCI layout in a tar file (`umoci`, `skopeo copy oci-archive:…`, `podman load`). All times in it
are $SOURCE_DATE_EPOCH, so that it is the same whenever it is made. --bom lists the Debian packages whose files
are in it, in CycloneDX 1.5.

For another machine, COMMAND runs its programs, and its libraries are below DIR, with dpkg's database of them, as
scripts/cross unpacks them.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import tarfile
import uuid
from datetime import datetime, timezone

EPOCH = int(os.environ['SOURCE_DATE_EPOCH'])
CREATED = datetime.fromtimestamp(EPOCH, timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
USER = 65532  # "nonroot", as in distroless images


def libraries(arguments):
    """The libraries that the loader names, and the loader itself: where each is for the host, and where it is here."""
    command = ['ldd', arguments.host]
    if arguments.run:  # the same, by the other machine's loader
        loader = next(pathlib.Path(arguments.packages, 'lib').glob('ld-linux-*'))
        command = [*shlex.split(arguments.run), loader, '--list', arguments.host]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {name.removeprefix(arguments.packages) for name in re.findall(r'(/\S+) \(0x', shown)}
    return {name: arguments.packages + name for name in sorted(found)}


def layer(host, files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w', format=tarfile.GNU_FORMAT) as tar:
        def add(name, data=None, mode=0o755, kind=tarfile.REGTYPE, link='', owner=0):
            info = tarfile.TarInfo(name.lstrip('/'))
            info.mtime, info.mode, info.type, info.linkname = EPOCH, mode, kind, link
            info.uid = info.gid = owner
            info.size = len(data or b'')
            tar.addfile(info, io.BytesIO(data or b''))

        entries = {'/usr/bin/callout-host': pathlib.Path(host).read_bytes()}
        for file, here in files.items():
            # Debian's /lib is a symlink to usr/lib.
            name = re.sub(r'^/(lib\w*)/', r'/usr/\1/', file)
            entries[name] = pathlib.Path(here).read_bytes()
        directories = {'/etc', '/usr', '/plugins', '/run'}
        for name in entries:
            directories.update(str(parent) for parent in pathlib.PurePath(name).parents if str(parent) != '/')
        for name in sorted(directories):
            add(name, kind=tarfile.DIRTYPE)
        add('/tmp', mode=0o1777, kind=tarfile.DIRTYPE)
        add('/run/callout-host', mode=0o700, kind=tarfile.DIRTYPE, owner=USER)
        for name in sorted({f'/{pathlib.PurePath(d).parts[2]}' for d in directories if d.startswith('/usr/lib')}):
            add(name, kind=tarfile.SYMTYPE, link=f'usr{name}', mode=0o777)
        for name, data in sorted(entries.items()):
            add(name, data)
        add('/etc/passwd', f'nonroot:x:{USER}:{USER}::/:/sbin/nologin\n'.encode(), mode=0o644)
        add('/etc/group', f'nonroot:x:{USER}:\n'.encode(), mode=0o644)
    return buffer.getvalue()


class Layout:
    """Blobs by their digest, and the tar file of all."""

    def __init__(self):
        self.files = {'oci-layout': b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(self, data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        self.files[f'blobs/sha256/{digest}'] = data
        return {'mediaType': media_type, 'digest': f'sha256:{digest}', 'size': len(data)}

    def json(self, value, media_type):
        return self.blob(json.dumps(value, sort_keys=True, separators=(',', ':')).encode(), media_type)

    def write(self, path):
        with tarfile.open(path, 'w', format=tarfile.GNU_FORMAT) as tar:
            for name, data in sorted(self.files.items()):
                info = tarfile.TarInfo(name)
                info.mtime, info.mode, info.size = EPOCH, 0o644, len(data)
                tar.addfile(info, io.BytesIO(data))


def layer_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w', format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(map(pathlib.Path, files), key=lambda path: path.name):
            data = path.read_bytes()
            info = tarfile.TarInfo(path.name)
            info.mtime, info.mode, info.size = EPOCH, 0o644, len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_image(arguments, tree, config, made_by):
    layout = Layout()
    packed = layout.blob(gzip.compress(tree, 9, mtime=0), 'application/vnd.oci.image.layer.v1.tar+gzip')
    config = layout.json({
        'architecture': arguments.arch,
        'os': 'linux',
        'created': CREATED,
        'config': config,
        'rootfs': {'type': 'layers', 'diff_ids': [f'sha256:{hashlib.sha256(tree).hexdigest()}']},
        'history': [{'created': CREATED, 'created_by': made_by}],
    }, 'application/vnd.oci.image.config.v1+json')
    manifest = layout.json({'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json',
                            'config': config, 'layers': [packed]}, 'application/vnd.oci.image.manifest.v1+json')
    manifest['annotations'] = {'org.opencontainers.image.ref.name': arguments.version}
    manifest['platform'] = {'architecture': arguments.arch, 'os': 'linux'}
    layout.files['index.json'] = json.dumps({'schemaVersion': 2, 'manifests': [manifest]},
                                            sort_keys=True).encode()
    layout.write(arguments.out)


def config_of_host(version):
    return {
        'User': f'{USER}:{USER}',
        'Entrypoint': ['/usr/bin/callout-host'],
        'Cmd': ['--plugins_dir=/plugins'],
        'ExposedPorts': {'8080/tcp': {}, '8443/tcp': {}, '8000/tcp': {}},
        'StopSignal': 'SIGTERM',
        'Env': ['PATH=/usr/bin'],
        # Docker's own field, which Podman reads as well: there is no shell here to run anything else.
        'Healthcheck': {'Test': ['CMD', '/usr/bin/callout-host', '--probe'], 'Interval': 5_000_000_000,
                        'Timeout': 3_000_000_000, 'Retries': 2},
        'Labels': {'org.opencontainers.image.title': 'callout-host',
                   'org.opencontainers.image.version': version,
                   'org.opencontainers.image.licenses': 'Apache-2.0'},
    }


def packages_of(files, dpkg_query):
    """The Debian packages of files, as (name, version, source), sorted."""
    # A file may be registered below /lib or /usr/lib, and by the name that a symlink leads to.
    names = {file: {file, re.sub(r'^/usr', '', file), os.path.realpath(file)} for file in files}
    shown = subprocess.run([*dpkg_query, '--search', *sorted(set().union(*names.values()))], capture_output=True,
                           text=True, check=False).stdout
    # Lines that begin so say which package has moved a file, and not which one has it.
    owners = {line.split(': ', 1)[1]: line.split(': ', 1)[0] for line in shown.splitlines()
              if ': /' in line and not line.startswith('diversion by ')}
    packages = set()
    for file in files:
        found = [owners[name] for name in names[file] if name in owners]
        if not found:
            raise SystemExit(f'oci.py: no Debian package has {file}, so the list of packages would be incomplete')
        packages.add(found[0])
    shown = subprocess.run([*dpkg_query, '--show', '--showformat=${Package}\t${Version}\t${source:Package}\n',
                            *sorted(packages)], capture_output=True, text=True, check=True).stdout
    return sorted({tuple(line.split('\t')) for line in shown.splitlines()})


def write_bom(arguments, files):
    dpkg_query = ['dpkg-query', *([f'--admindir={arguments.packages}/var/lib/dpkg'] if arguments.packages else [])]
    packages = packages_of(files.values(), dpkg_query)
    host = hashlib.sha256(pathlib.Path(arguments.host).read_bytes()).hexdigest()
    pathlib.Path(arguments.bom).write_text(json.dumps({
        'bomFormat': 'CycloneDX',
        'specVersion': '1.5',
        'serialNumber': f'urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, "callout-host:" + host)}',
        'version': 1,
        'metadata': {
            'timestamp': CREATED,
            'component': {'type': 'application', 'bom-ref': 'callout-host', 'name': 'callout-host',
                          'version': arguments.version, 'licenses': [{'license': {'id': 'Apache-2.0'}}],
                          'hashes': [{'alg': 'SHA-256', 'content': host}]},
        },
        'components': [
            {'type': 'library', 'bom-ref': f'{name}@{version}', 'name': name, 'version': version,
             'purl': f'pkg:deb/debian/{name}@{version.replace("+", "%2B").replace(":", "%3A")}?arch={arguments.arch}',
             'properties': [{'name': 'debian:source', 'value': source}]}
            for name, version, source in packages],
        'dependencies': [{'ref': 'callout-host', 'dependsOn': [f'{name}@{version}' for name, version, _ in packages]}],
    }, indent=1) + '\n')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--files', action='store_true')
    parser.add_argument('--host')
    parser.add_argument('--version', default='latest')
    parser.add_argument('--bom')
    parser.add_argument('--packages', default='')
    parser.add_argument('--run', default='')
    parser.add_argument('--arch', required=True)
    parser.add_argument('--out', required=True)
    parser.add_argument('plugins', nargs='*', metavar='FILE')
    arguments = parser.parse_args()
    if arguments.files:
        write_image(arguments, layer_of(arguments.plugins), {}, 'scripts/package-plugin')
        return
    files = libraries(arguments)
    write_image(arguments, layer(arguments.host, files), config_of_host(arguments.version), 'scripts/package')
    write_bom(arguments, files)


if __name__ == '__main__':
    main()
