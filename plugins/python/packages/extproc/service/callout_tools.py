# SPDX-License-Identifier: Apache-2.0
"""Functions that make responses and search messages.

Names and parameters are those of the samples. Where a sample's function does what Envoy does not
understand, this one does what the caller meant; docs/coming-from-the-samples.md lists these cases.
"""

import ipaddress
import logging

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    HeadersResponse,
    ImmediateResponse,
)
from google.protobuf.struct_pb2 import Struct

_APPEND = HeaderValueOption.HeaderAppendAction.Value('APPEND_IF_EXISTS_OR_ADD')
_OVERWRITE = HeaderValueOption.HeaderAppendAction.Value('OVERWRITE_IF_EXISTS_OR_ADD')
_ENDPOINT_NAMESPACE = 'com.google.envoy.dynamic_forwarding.selected_endpoints'


def _as_bytes(text):
  return text if isinstance(text, bytes) else str(text).encode('utf-8')


def _set_headers(options, headers, append_action):
  """Fills a repeated HeaderValueOption, so that Envoys that read `append` (1.40) and those that read
  `append_action` do the same. What `append` cannot say is settled when the hook returns it."""
  action = _OVERWRITE if append_action is None else append_action
  for key, value in headers:
    option = options.add()
    header = option.header
    header.key = key
    header.raw_value = value if type(value) is bytes else _as_bytes(value)
    option.append_action = action
    if action == _APPEND:
      option.append.value = True


def add_header_mutation(add=None, remove=None, clear_route_cache=False, append_action=None):
  """A HeadersResponse that sets the (name, value) pairs in `add` and removes the names in
  `remove`. `append_action` is a HeaderValueOption.HeaderAppendAction; None overwrites. ADD_IF_ABSENT
  and OVERWRITE_IF_EXISTS look at the headers that the hook was given."""
  response = HeadersResponse()
  if add or remove:
    mutation = response.response.header_mutation
    if add:
      _set_headers(mutation.set_headers, add, append_action)
    if remove:
      mutation.remove_headers.extend(remove)
  if clear_route_cache:
    response.response.clear_route_cache = True
  return response


def normalize_header_mutation(headers, clear_route_cache=False):
  """A HeadersResponse that sets client-device-type by the host that the request is for."""
  host = _header_text(headers, (':authority', 'host')) or ''
  device = 'desktop'
  if 'm.example.com' in host:
    device = 'mobile'
  elif 't.example.com' in host:
    device = 'tablet'
  return add_header_mutation([('client-device-type', device)], clear_route_cache=clear_route_cache)


def add_body_mutation(body=None, clear_body=False, clear_route_cache=False):
  """A BodyResponse that puts `body`, a text or bytes, in place of the message's, or clears it.
  An empty text is an empty body."""
  response = BodyResponse()
  if body is not None:
    response.response.body_mutation.body = _as_bytes(body)
    if clear_body:
      logging.warning('body and clear_body are mutually exclusive.')
  elif clear_body:
    response.response.body_mutation.clear_body = True
  if clear_route_cache:
    response.response.clear_route_cache = True
  return response


def _header_text(http_headers, names):
  for header in http_headers.headers.headers:
    if header.key.lower() in names:
      return (header.raw_value or header.value.encode('utf-8')).decode('utf-8', 'replace')
  return None


def headers_contain(http_headers, key, value=None):
  """Whether there is a header of this name, in any case, and with this value unless None."""
  name = key.lower()
  wanted = None if value is None else _as_bytes(value)
  for header in http_headers.headers.headers:
    if header.key.lower() != name:
      continue
    if wanted is None or wanted == (header.raw_value or header.value.encode('utf-8')):
      return True
  return False


def body_contains(http_body, body):
  """Whether the text or the bytes `body` are in the message's body."""
  return _as_bytes(body) in http_body.body


def deny_callout(context, msg=None):
  """Ends the RPC with PERMISSION_DENIED; does not return. Envoy then responds with 500, or lets
  the request pass if it is told to fail open: header_immediate_response(403) is the better way."""
  from grpc import StatusCode  # grpcio's or the stand-in; grpcio takes long to be imported
  msg = msg or 'Callout DENIED.'
  logging.warning(msg)
  context.abort(StatusCode.PERMISSION_DENIED, msg)


def header_immediate_response(code, headers=None, append_action=None):
  """An ImmediateResponse with this HTTP status (a StatusCode or a number) and these headers."""
  response = ImmediateResponse()
  response.status.code = code
  if headers:
    _set_headers(response.headers.set_headers, headers, append_action)
  return response


def build_dynamic_forwarding_metadata(ip_address, port_number):
  """The Struct for ProcessingResponse.dynamic_metadata that selects an endpoint."""
  address = ipaddress.ip_address(ip_address)
  port = int(port_number)
  if not 0 < port < 65536:
    raise ValueError(f'the port {port} is not between 1 and 65535')
  host = f'[{address}]' if address.version == 6 else str(address)
  metadata = Struct()
  metadata.update({_ENDPOINT_NAMESPACE: {'primary': f'{host}:{port}'}})
  return metadata
