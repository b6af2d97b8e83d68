# SPDX-License-Identifier: Apache-2.0
"""The part of plugins/python that is written in Python: loads scripts into namespaces of their
own, gives their output to the host's log, and describes their exceptions.

python.so calls `loading`. The modules are loaded once in a process, also where several versions of
python.so are; INTERFACE says which version of python.so they belong to.
"""

INTERFACE = 2
