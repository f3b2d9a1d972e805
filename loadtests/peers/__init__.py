"""The proxies measured side by side, a file each: peer.py says what one is, registry.py lists them."""

from loadtests.peers.peer import Command, Peer, Running, Site, start
from loadtests.peers.registry import PEERS

__all__ = ["PEERS", "Command", "Peer", "Running", "Site", "start"]
