#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is shipped for Kubernetes and Google Cloud, by schemas and classes that PyPI has; scripts/setup installs them
into .venv. Without them the tests are skipped; with CI=true that is a failure.

    formats_test.py [TEST…]
"""
import copy
import os
import pathlib
import site
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
for packages in TOP.glob('.venv/lib/python3*/site-packages'):
    site.addsitedir(packages)
    sys.path.insert(0, str(packages))

try:
    import hcl2
    import kubernetes_validate
    import yaml
    from google.cloud import network_services_v1
    from google.protobuf import json_format
    MISSING = None
except ImportError as error:
    MISSING = str(error)
    if os.environ.get('CI') == 'true':
        raise

KUBERNETES = ('1.33', '1.37')
NATIVE = {'v1', 'apps/v1', 'policy/v1', 'autoscaling/v2', 'networking.k8s.io/v1'}
# hashicorp/google 7.45, from the resources' definitions in the provider's source.
ATTRIBUTES = {
    'google_network_services_lb_traffic_extension': {
        '': {'name', 'location', 'load_balancing_scheme', 'forwarding_rules', 'description', 'labels',
             'deletion_policy', 'extension_chains'},
        'extension_chains': {'name', 'match_condition', 'extensions'},
        'match_condition': {'cel_expression'},
        'extensions': {'name', 'service', 'authority', 'timeout', 'fail_open', 'forward_headers',
                       'forward_attributes', 'supported_events', 'metadata'},
    },
    'google_compute_region_backend_service': {
        '': {'name', 'region', 'protocol', 'port_name', 'load_balancing_scheme', 'health_checks', 'backend'},
        'backend': {'group', 'balancing_mode', 'capacity_scaler'},
    },
    'google_compute_region_health_check': {
        '': {'name', 'region', 'check_interval_sec', 'timeout_sec', 'healthy_threshold', 'unhealthy_threshold',
             'http_health_check'},
        'http_health_check': {'port', 'request_path'},
    },
}


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@unittest.skipIf(MISSING, MISSING)
class Kubernetes(unittest.TestCase):
    def native(self):
        found = [(path.name, document) for path in sorted((TOP / 'deploy/kubernetes').glob('*.yaml'))
                 for document in documents(path) if document['apiVersion'] in NATIVE]
        self.assertGreater(len(found), 20)
        return found

    def test_accepts_the_manifests(self):
        for version in KUBERNETES:
            for name, document in self.native():
                with self.subTest(file=name, kind=document['kind'], version=version):
                    kubernetes_validate.validate(document, version, strict=True)

    def test_refuses_a_misspelt_key_and_a_wrong_type(self):
        deployment = next(document for _, document in self.native() if document['kind'] == 'Deployment')
        for change in ({'replica': 2}, {'minReadySeconds': '2'}):
            changed = copy.deepcopy(deployment)
            changed['spec'].update(change)
            with self.assertRaises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(changed, KUBERNETES[-1], strict=True)

    def test_pods_are_as_the_restricted_standard_wants_them(self):
        pods = [document['spec']['template']['spec'] for _, document in self.native()
                if document['kind'] == 'Deployment']
        self.assertGreaterEqual(len(pods), 4)
        for pod in pods:
            self.assertFalse(pod['automountServiceAccountToken'])
            self.assertFalse(any('hostPath' in volume for volume in pod['volumes']))
            for container in pod['containers']:
                security = container['securityContext']
                self.assertTrue(security['runAsNonRoot'])
                self.assertFalse(security['allowPrivilegeEscalation'])
                self.assertEqual(security['capabilities'], {'drop': ['ALL']})
                self.assertEqual(security['seccompProfile'], {'type': 'RuntimeDefault'})
                self.assertTrue(security['readOnlyRootFilesystem'])


@unittest.skipIf(MISSING, MISSING)
class GoogleCloud(unittest.TestCase):
    def parse(self, document, kind):
        return json_format.ParseDict(document, kind.pb()())

    def test_traffic_extensions_that_are_printed_are_those_of_the_api(self):
        printed = sorted((TOP / 'tests/host/deploy/golden').glob('gcloud_*.yaml'))
        self.assertGreaterEqual(len(printed), 2)
        for path in printed:
            (document,) = documents(path)
            extension = self.parse(document, network_services_v1.LbTrafficExtension)
            (chain,) = extension.extension_chains
            self.assertFalse(chain.extensions[0].fail_open)

    def test_an_authorization_extension_is_that_of_the_api(self):
        (document,) = documents(TOP / 'deploy/google-cloud/authz-extension.yaml')
        extension = self.parse(document, network_services_v1.AuthzExtension)
        self.assertFalse(extension.fail_open)

    def test_refuses_a_misspelt_key_and_an_event_that_there_is_not(self):
        (document,) = documents(TOP / 'tests/host/deploy/golden/gcloud_headers.yaml')
        for change in ({'failopen': True}, {'supportedEvents': ['REQUEST_HEADER']}):
            changed = copy.deepcopy(document)
            changed['extensionChains'][0]['extensions'][0].update(change)
            with self.assertRaises(json_format.ParseError):
                self.parse(changed, network_services_v1.LbTrafficExtension)


def unquoted(text):
    return text.strip('"')


@unittest.skipIf(MISSING, MISSING)
class Terraform(unittest.TestCase):
    """The syntax, and names of attributes; the provider itself cannot be had everywhere."""

    def unknown(self, text):
        """NAME.ATTRIBUTE of each that the provider does not have."""
        found, seen = [], set()
        for resource in hcl2.loads(text)['resource']:
            ((kind, named),) = resource.items()
            kind = unquoted(kind)
            seen.add(kind)

            def walk(block, name):
                for key, value in block.items():
                    if key.startswith('__'):
                        continue
                    if key not in ATTRIBUTES.get(kind, {}).get(name, ()):
                        found.append(f'{name or kind}.{key}')
                    for inner in value if isinstance(value, list) else [value]:
                        if isinstance(inner, dict):
                            walk(inner, key)

            for block in named.values():
                walk(block, '')
        return found, seen

    def test_has_only_attributes_of_the_provider(self):
        found, seen = self.unknown((TOP / 'deploy/google-cloud/callout.tf').read_text())
        self.assertEqual(found, [])
        self.assertEqual(seen, set(ATTRIBUTES))

    def test_refuses_a_misspelt_attribute(self):
        text = (TOP / 'deploy/google-cloud/callout.tf').read_text()
        found, _ = self.unknown(text.replace('fail_open', 'failopen'))
        self.assertEqual(found, ['extensions.failopen'])


if __name__ == '__main__':
    unittest.main(argv=sys.argv)
