#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the manual pages of the programs: the options from --help, and what stands below.

    scripts/man_pages.py VERSION OUT HELP...     what callout-host --help prints, in callout-host.help, becomes
                                                 OUT/callout-host.1, and so on

A step of the build.
"""

import pathlib
import re
import sys

OPTION = re.compile(r"  --(\w+)(?: (\[NAME=\]PATH|NAME=\S+|[^\s=]+)(?:=(\d+ % .+?(?=  |$)|\S+))?)?(?: +(\S.*))?")
RANGE = re.compile(r"(.*) \[(\d+) to (\d+)\]")

# Sections in roff, before and after the options.
PAGES = {
    "callout-host": {
        "name": "serves Envoy's external processing protocol (ext_proc) with plugins",
        "synopsis": [r"\fB\-\-plugin\fR=[\fINAME\fR=]\fIPATH\fR", r"[\fIOPTION\fR...]"],
        "before": r"""
.B callout-host
answers ext_proc streams of Envoy, and Check requests of ext_authz, by the hooks of plugins: shared objects that it
loads, checks and reloads.
Each option can also be set in the environment (\fBCALLOUT_LOG_LEVEL=info\fR for \fB\-\-log_level\fR) or in the file of
\fB\-\-config\fR (\fBlog_level = info\fR).
The command line takes precedence over the environment, and the environment over the file.
Dashes work in place of underscores.
""",
        "after": r"""
.SH SIGNALS
.TP
.B SIGTERM
Drains: health says no, the host goes on serving for \fB\-\-drain_delay_ms\fR if somebody has asked for health within
the last 60 s, and streams have \fB\-\-drain_timeout_ms\fR to end.
A second one ends the host at once.
.TP
.B SIGHUP
Reads certificates again, and rescans plugin files.
.SH EXIT STATUS
.TP
.B 0
The host has drained; or what was asked for was printed; or \fB\-\-probe\fR: it is ready.
.TP
.B 1
\fB\-\-probe\fR: the host is not ready, or does not respond; \fB\-\-doctor\fR: there are findings.
.TP
.B 2
An option, a file or a plugin is wrong. One line says what to do.
.SH FILES
.TP
.I /etc/callout-host/callout-host.conf
Options of the service callout-host.service.
.TP
.I /var/lib/callout-host/plugins
Plugins of that service.
.SH EXAMPLES
Load and check two plugins that run one after the other:
.PP
.nf
callout-host \-\-check \-\-plugin=auth.so \-\-plugin=stamp.so
.fi
.PP
Print what Envoy Gateway needs to know of them:
.PP
.nf
callout-host \-\-print_config=envoy-gateway \-\-plugin=auth.so \-\-plugin=stamp.so
.fi
.SH SEE ALSO
.BR callout-client (1),
.BR callout-replay (1),
.BR callout-test (1),
.BR minisign (1),
.BR systemd.service (5)
""",
    },
    "callout-client": {
        "name": "sends messages to a server of Envoy's external processing protocol (ext_proc)",
        "synopsis": [r"\fIADDRESS\fR", r"[\fIOPTION\fR...]"],
        "before": r"""
.B callout-client
sends ProcessingRequests on one stream to the ext_proc server at \fIADDRESS\fR and prints each response as a line of
JSON; or CheckRequests to an ext_authz server (\fB\-\-service=check\fR).
\fIADDRESS\fR is \fIHOST\fR:\fIPORT\fR, [\fIIPV6\fR]:\fIPORT\fR or unix:\fIPATH\fR.
""",
        "after": r"""
.SH EXIT STATUS
.TP
.B 0
Every message was answered, an immediate response ended the exchange, or the server ended the stream early with OK.
.TP
.B 1
The stream ended with an error, which is printed.
.TP
.B 2
Invalid arguments, files or JSON.
.TP
.B 3
No connection.
.TP
.B 4
The stream ended with OK, but without any response.
.SH EXAMPLES
.nf
callout-client unix:/run/callout.sock \-\-plaintext \-\-data '{"request_headers": {}}'
.fi
.SH SEE ALSO
.BR callout-host (1)
""",
    },
    "callout-replay": {
        "name": "plays recordings of callout-host through plugins, and shows how their responses differ",
        "synopsis": [r"\fIFILE\fR...", r"[\fB\-\-plugin\fR=[\fINAME\fR=]\fIPATH\fR]", r"[\fIOPTION\fR...]"],
        "before": r"""
.B callout-replay
plays the exchanges of recordings, which callout-host makes with \fB\-\-record\fR or POST /tap, through a chain of
plugins in its own process, and compares what the plugins answer with the recording or, with \fB\-\-against\fR, with
what another chain answers.
It prints how many exchanges differ, by kind, and the commonest differences.
A \fIFILE\fR that ends with .so is a plugin.
""",
        "after": r"""
.SH EXIT STATUS
.TP
.B 0
Nothing differs, or only what \fB\-\-expect\fR allows.
.TP
.B 1
Something else differs.
.TP
.B 2
Invalid arguments, recordings or plugins.
Of a damaged recording, everything before the damage was played.
.SH EXAMPLES
Where would the new version have responded differently?
.PP
.nf
callout-replay live.rec \-\-plugin=new.so
.fi
.PP
Compare two versions:
.PP
.nf
callout-replay \-\-against=old.so new.so live.rec
.fi
.SH SEE ALSO
.BR callout-host (1),
.BR callout-test (1)
""",
    },
    "callout-test": {
        "name": "runs cases in YAML through chains of callout-host's plugins",
        "synopsis": [r"\fIDIR\fR...", r"[\fIOPTION\fR...]"],
        "before": r"""
.B callout-test
runs the cases in the YAML files of each \fIDIR\fR through the chains of plugins that they name, in its own process or,
with \fB\-\-envoy\fR, through callout-host and a real Envoy.
For each case that fails it prints file, line, and what is different from what the case expects.
\fIDIR\fR may also be a file.
""",
        "after": r"""
.SH EXIT STATUS
.TP
.B 0
All cases passed.
.TP
.B 1
Some failed.
.TP
.B 2
Invalid arguments, cases or plugins.
.SH ENVIRONMENT
.TP
.B CALLOUT_ENVOY
The Envoy for \fB\-\-envoy\fR.
.SH EXAMPLES
.nf
callout-test cases \-\-tag=security \-\-junit=report.xml
.fi
.SH SEE ALSO
.BR callout-host (1)
""",
    },
    # A script, of which --help is text.
    "callout-dev": {
        "name": "builds, serves and tests a plugin of callout-host whenever a source changes",
        "synopsis": [r"\fIPLUGIN_DIR\fR", r"[\fIOPTION\fR...]", r"[\-\- \fIHOST_OPTION\fR...]"],
        "before": "",
        "after": r"""
.SH EXIT STATUS
.TP
.B 0
Ctrl\-C ended it, or with \fB\-\-once\fR all went well.
.TP
.B 1
With \fB\-\-once\fR: the build, the host or a case failed.
.TP
.B 2
Invalid arguments, or a program is missing.
.SH SEE ALSO
.BR callout-host (1),
.BR callout-test (1)
""",
    },
}


def roff(text):
    text = text.replace("\\", r"\e").replace("-", r"\-")
    # Long lists may be broken after a comma.
    text = re.sub(r"\S{60,}", lambda word: word[0].replace(",", r",\:"), text)
    return "\\&" + text if text[:1] in (".", "'") else text


def options_of(shown):
    """Yields a heading, or (name, value, default, help)."""
    lines = iter(shown.splitlines())
    for line in lines:
        if re.fullmatch(r"\w[\w ]*:", line) and line != "Positionals:":
            yield line[:-1]
        elif found := OPTION.fullmatch(line):
            name, value, default, text = found.groups(default="")
            yield name, value, default, text or next(lines).strip()


def option(name, value, default, text):
    yield ".TP"
    yield rf"\fB\-\-{roff(name)}\fR" + (rf"=\fI{roff(value)}\fR" if value else "")
    limits = ""
    if found := RANGE.fullmatch(text):
        text, limits = found[1], f" From {found[2]} to {found[3]}."
    end = "" if text.endswith((".", ":")) else "."
    yield roff(f"{text}{end}{limits}" + (f" Default: {default}." if default else ""))


def page(program, version, shown):
    facts = PAGES[program]
    yield r'.\" SPDX-License-Identifier: Apache-2.0'
    yield r'.\" Written by scripts/man_pages.py.'
    yield f'.TH {program.upper()} 1 "" "callout-host {version}" "User Commands"'
    yield from (".ad l", ".nh")  # long lists of names cannot be spread over a line
    yield ".SH NAME"
    yield rf"{roff(program)} \- {facts['name']}"
    yield ".SH SYNOPSIS"
    yield f".B {program}"
    yield from facts["synopsis"]
    yield ".SH DESCRIPTION"
    if program == "callout-dev":
        yield from script_help(shown)
        yield from facts["after"].strip().splitlines()
        return
    yield from facts["before"].strip().splitlines()
    yield ".SH OPTIONS"
    for entry in options_of(shown):
        if isinstance(entry, str):
            yield f'.SS "{entry}"'
        else:
            yield from option(*entry)
    yield from facts["after"].strip().splitlines()


def script_help(shown):
    """Paragraphs, and options as they stand: two spaces, the option, two spaces or more, what it does."""
    begun = False
    for line in shown.splitlines():
        entry = re.fullmatch(r"  (--\S+|HOST_OPTION)  +(\S.*)", line)
        if entry:
            if not begun:
                yield ".SH OPTIONS"
            begun = True
            yield from (".TP", rf"\fB{roff(entry[1])}\fR", roff(entry[2]))
        elif re.match(r"  (scripts/|callout-)", line):
            continue  # the synopsis says it
        elif line:
            yield roff(line.strip())
        elif not begun:
            yield ".PP"


def main():
    version, out = sys.argv[1], pathlib.Path(sys.argv[2])
    for text in map(pathlib.Path, sys.argv[3:]):
        written = "\n".join(page(text.stem, version, text.read_text())) + "\n"
        (out / f"{text.stem}.1").write_text(written)


if __name__ == "__main__":
    main()
