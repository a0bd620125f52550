"""Where a listener's sockets are. Called by the two listeners, for clients and for other members.

Rule: `[::]` is every address of this machine, of IPv4 too, and it works where there is no IPv6: so one setting does for
machines of either kind, and of both.
"""

import errno
import socket

EVERY_ADDRESS = "::"
BACKLOG = 1024
"""Connections that wait to be taken."""
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def every_address(port: int) -> socket.socket:
    """A socket that listens on every address; of port 0, on any free one. OSError where the port is taken.

    (asyncio's own binds `::` for IPv6 alone.)"""
    try:
        return socket.create_server((EVERY_ADDRESS, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    except ValueError:  # there is no IPv6 at all
        pass
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)
