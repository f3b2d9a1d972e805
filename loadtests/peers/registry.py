"""All peers in the order the tables show them; to add one is a file and a line."""

from __future__ import annotations

from typing import Final

from loadtests.peers.caddy import CADDY
from loadtests.peers.envoy import ENVOY
from loadtests.peers.haproxy import HAPROXY
from loadtests.peers.nginx import NGINX
from loadtests.peers.peer import Peer
from loadtests.peers.triage import TRIAGE

PEERS: Final[dict[str, Peer]] = {peer.name: peer for peer in (TRIAGE, NGINX, HAPROXY, ENVOY, CADDY)}
