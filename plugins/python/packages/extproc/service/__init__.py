# SPDX-License-Identifier: Apache-2.0
"""callout_server, callout_tools and command_line_tools."""
