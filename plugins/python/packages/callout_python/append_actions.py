# SPDX-License-Identifier: Apache-2.0
"""ADD_IF_ABSENT and OVERWRITE_IF_EXISTS, which Envoy 1.40 does not read: it would overwrite."""

_ADD_IF_ABSENT, _OVERWRITE, _OVERWRITE_IF_EXISTS = 1, 2, 3


def _headers_of(message):
  """The names that the hook's message has, in lower case; None: it is a body."""
  kind = message.DESCRIPTOR.name
  if kind == 'ProcessingRequest':
    which = message.WhichOneof('request')
    return _headers_of(getattr(message, which)) if which else None
  if kind not in ('HttpHeaders', 'HttpTrailers'):
    return None
  known = message.headers if kind == 'HttpHeaders' else message.trailers
  return {header.key.lower() for header in known.headers}


def _settle_mutation(mutation, known):
  removed = {name.lower() for name in mutation.remove_headers}
  exist = known - removed
  left_out = []
  for index, option in enumerate(mutation.set_headers):
    name = option.header.key.lower()
    if option.append_action in (_ADD_IF_ABSENT, _OVERWRITE_IF_EXISTS) and not option.HasField('append'):
      if (name in exist) != (option.append_action == _OVERWRITE_IF_EXISTS):
        left_out.append(index)
        continue
      option.append_action = _OVERWRITE
    exist.add(name)
  for index in reversed(left_out):
    del mutation.set_headers[index]


def _settle_part(part, message):
  kind = part.DESCRIPTOR.name
  if kind == 'ImmediateResponse':
    _settle_mutation(part.headers, set())  # it begins without headers
    return
  known = _headers_of(message)
  if kind == 'HeadersResponse' and known is not None:
    _settle_mutation(part.response.header_mutation, known)
  elif kind == 'TrailersResponse' and known is not None:
    _settle_mutation(part.header_mutation, known)


def settle(response, message):
  """A copy of a hook's response in which these headers are set, or left out, by what the hook's
  message has. The header mutation of a body's response stays as it is: there is nothing to look at."""
  settled = type(response)()
  settled.CopyFrom(response)
  part = settled
  if part.DESCRIPTOR.name == 'ProcessingResponse':
    which = part.WhichOneof('response')
    part = getattr(part, which) if which else None
  if part is not None:
    _settle_part(part, message)
  return settled
