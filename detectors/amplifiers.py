"""Services whose answers are sent to victims that never asked, and ports whose traffic is one-sided by nature."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# UDP services that answer strangers and say more than they are asked (US-CERT alert TA14-017A and its updates).
AMPLIFIERS: Mapping[int, str] = {
    17: "QOTD", 19: "CharGEN", 53: "DNS", 69: "TFTP", 111: "portmap", 123: "NTP", 137: "NetBIOS", 161: "SNMP",
    389: "CLDAP", 427: "SLP", 500: "IKE", 520: "RIP", 1194: "OpenVPN", 1434: "SQL Server", 1900: "SSDP",
    3283: "Apple Remote Desktop", 3389: "RDP", 3478: "STUN", 3702: "WS-Discovery", 4500: "IKE", 5060: "SIP",
    5093: "Sentinel", 5351: "NAT-PMP", 5353: "mDNS", 5683: "CoAP", 10001: "Ubiquiti", 11211: "memcached",
    27015: "Steam", 37810: "DHDiscover",
}  # fmt: skip

AMPLIFIES = np.zeros(1 << 16, np.bool_)
AMPLIFIES[list(AMPLIFIERS)] = True

# Each side of a tunnel sends from ports of its own choice, so no packet is ever answered within its flow:
# VXLAN (IANA and Linux's older port), Geneve, GUE, GTP-U.
TUNNELS = np.zeros(1 << 16, np.bool_)
TUNNELS[[4789, 8472, 6081, 6080, 2152]] = True


def service(port: int) -> str:
    """Return the name of the service that answers from a port."""
    return AMPLIFIERS.get(port, f"port {port}")
