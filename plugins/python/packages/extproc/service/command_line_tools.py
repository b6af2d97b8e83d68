# SPDX-License-Identifier: Apache-2.0
"""The command line of the samples' servers."""

import argparse


def _address(text):
  host, colon, port = text.rpartition(':')
  if not colon or not port.isdigit():
    raise argparse.ArgumentTypeError(f'{text!r} is not ADDRESS:PORT')
  return host.strip('[]'), int(port)


def add_command_line_args():
  """An argparse parser with the options of CalloutServer. In the callout host nobody parses a
  command line: the options of the host with the same names count."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--secure_address', type=_address)
  parser.add_argument('--plaintext_address', type=_address)
  parser.add_argument('--health_check_address', type=_address)
  parser.add_argument('--secure_health_check', action='store_true')
  parser.add_argument('--combined_health_check', action='store_true')
  parser.add_argument('--disable_plaintext', action='store_true')
  parser.add_argument('--disable_tls', action='store_true')
  parser.add_argument('--cert_chain_path', default=argparse.SUPPRESS)
  parser.add_argument('--private_key_path', default=argparse.SUPPRESS)
  return parser
