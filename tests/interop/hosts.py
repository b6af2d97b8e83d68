# SPDX-License-Identifier: Apache-2.0
"""The host that the clients talk to, and the certificates that it shows them."""

import os
import re
import subprocess
import time

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30


class Certificates:
    """An authority of our own, and the certificate and key of a server on this machine, in `folder`."""

    def __init__(self, folder):
        self.ca, self.chain, self.key, ca_key, request, extensions = (
            os.path.join(folder, name)
            for name in ("ca.pem", "chain.pem", "key.pem", "ca-key.pem", "request.pem", "extensions"))
        with open(extensions, "w") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        for arguments in (
            ["req", "-x509", *new_key, "-subj", "/CN=interop", "-out", self.ca, "-keyout", ca_key],
            ["req", *new_key, "-subj", "/CN=localhost", "-out", request, "-keyout", self.key],
            ["x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial",
             "-extfile", extensions, "-out", self.chain],
        ):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Host:
    """A host that runs with plugins/echo.cc until the end of the `with`."""

    def __init__(self, build, transport, certificates, log_path):
        self._log_path = log_path
        command = [
            os.path.join(build, "host", "callout-host"), f"--transport={transport}",
            f"--plugin=echo={os.path.join(build, 'tests', 'interop', 'echo.so')}",
            "--max_message_bytes=1000000", "--plaintext_address=127.0.0.1:0",
            "--secure_address=127.0.0.1:0", "--combined_health_check", "--admin_address=off",
            f"--cert_chain_path={certificates.chain}", f"--private_key_path={certificates.key}"]
        with open(log_path, "w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        # {"plaintext": "127.0.0.1:4711", "secure": …}
        self.addresses = {kind: self._await_address(kind) for kind in ("plaintext", "secure")}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            status = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status != 0:
            raise RuntimeError(f"the host ended with {status}, see {self._log_path}")

    def _await_address(self, kind):
        give_up = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < give_up and self._process.poll() is None:
            with open(self._log_path) as log:
                if found := re.search(rf"listening {kind} (\S+:\d+)$", log.read(), re.MULTILINE):
                    return found[1]
            time.sleep(0.02)
        self._process.kill()
        self._process.wait()
        raise RuntimeError(f"the host does not listen, see {self._log_path}")
