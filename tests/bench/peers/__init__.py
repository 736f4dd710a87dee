"""All peers by name, zeroslot first. What each of them imports is imported when its ends are opened."""

from __future__ import annotations

from tests.bench.peers import brokers, iceoryx2, sockets, standard, zeroslot
from tests.bench.ways import Peer

PEERS: dict[str, Peer] = {
    peer.name: peer for module in (zeroslot, iceoryx2, standard, sockets, brokers) for peer in module.PEERS
}
