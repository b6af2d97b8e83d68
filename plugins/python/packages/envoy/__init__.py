# SPDX-License-Identifier: Apache-2.0
"""Envoy's messages, generated from proto/. Folders of the same name further down the path (other
messages of Envoy's API) join in."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
