# SPDX-License-Identifier: Apache-2.0
"""The package that callout scripts import, in the names of Google's service-extensions samples.

Written for the callout host: the host serves, so nothing here opens a socket.
"""
