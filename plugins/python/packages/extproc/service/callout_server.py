# SPDX-License-Identifier: Apache-2.0
"""CalloutServer, the class that a script extends.

The callout host makes one object of the script's subclass and calls its methods: one for each
message that Envoy sends. It calls only methods that the subclass overrides, on several threads,
one at a time for each HTTP request. A message whose method is not overridden passes unchanged.
"""

import logging

from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    HeadersResponse,
    ImmediateResponse,
    ProcessingResponse,
    TrailersResponse,
)

# The phase's message in ProcessingRequest has the name of the response in ProcessingResponse.
_RESPONSES = {
    'request_headers': HeadersResponse,
    'response_headers': HeadersResponse,
    'request_body': BodyResponse,
    'response_body': BodyResponse,
    'request_trailers': TrailersResponse,
    'response_trailers': TrailersResponse,
}


class CalloutServer:
  """To be extended: override the on_... methods that you want, or process.

  Each returns the phase's response, an ImmediateResponse, a ProcessingResponse, or None, which
  lets the message pass unchanged. An exception is a fault of the plugin: the host answers by the
  operator's policy, by default with an error.

  `context` is one object for all messages of an HTTP request. It has the methods of
  grpc.ServicerContext, and takes attributes of the script's own.
  """

  def __init__(self, *unused_arguments, **unused_options):
    """Takes what the samples' server takes (addresses, certificates, ports) and ignores it: the
    host's options say where and how it listens."""

  def on_request_headers(self, headers, context):
    """HttpHeaders -> HeadersResponse"""

  def on_response_headers(self, headers, context):
    """HttpHeaders -> HeadersResponse"""

  def on_request_body(self, body, context):
    """HttpBody -> BodyResponse"""

  def on_response_body(self, body, context):
    """HttpBody -> BodyResponse"""

  def on_request_trailers(self, trailers, context):
    """HttpTrailers -> TrailersResponse"""

  def on_response_trailers(self, trailers, context):
    """HttpTrailers -> TrailersResponse"""

  def process(self, callout, context):
    """ProcessingRequest -> ProcessingResponse, for every message. Override it to see attributes
    and metadata_context; super().process(callout, context) calls the on_... method."""
    phase = callout.WhichOneof('request')
    if phase not in _RESPONSES:
      return None
    result = getattr(self, 'on_' + phase)(getattr(callout, phase), context)
    if isinstance(result, ProcessingResponse):
      return result
    if isinstance(result, ImmediateResponse):
      return ProcessingResponse(immediate_response=result)
    if result is None:
      result = _RESPONSES[phase]()
    return ProcessingResponse(**{phase: result})

  def run(self):
    """Returns at once: the host serves already."""
    logging.info('%s.run() has nothing to do: the callout host serves', type(self).__name__)

  def shutdown(self):
    """Called when the host has no more use for the object: the script has changed, or the host
    stops. Override it to stop threads that the object has started."""
