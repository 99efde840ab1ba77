"""Whether something listens at an address."""

from __future__ import annotations

import socket

from experiments.doctor.report import Finding

#: Limit on one answer over the network.
NETWORK_SECONDS = 5.0
#: HTTP/2's opening with empty settings; a gRPC server answers with a settings frame (type 4).
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + bytes(5)
_SETTINGS = 4


def port_finding(name: str, host: str, port: int, what: str, hello: bool = False) -> Finding:
    """Whether something listens at `host`:`port`; with `hello`, whether it speaks gRPC."""
    place = f"{host}:{port}"
    start = f"start {what} there, or correct the address; a firewall may be in between"
    try:
        with socket.create_connection((host, port), timeout=NETWORK_SECONDS) as connection:
            if hello:
                connection.sendall(_HELLO)
                answer = connection.recv(9)
                if len(answer) < 4 or answer[3] != _SETTINGS:
                    other = f"what listens at {place} is not {what}"
                    return Finding(name, False, other, "correct the address")
    except OSError as error:
        return Finding(name, False, f"{place} cannot be reached: {error}", start)
    return Finding(name, True, f"{place} answers")
