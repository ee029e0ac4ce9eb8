"""Checks of the section `cluster`: addresses are addresses, the secret is long enough, others can find the way back."""

from collections.abc import Iterator
from ipaddress import ip_address

from open_autoglm.cluster.settings import ClusterSettings, of_another_family
from open_autoglm.config.tree import shorten
from open_autoglm.membership.member import is_address, is_id, join_address, split_address

SECRET_CHARACTERS_MIN = 16
"""Who records datagrams can try secrets at leisure."""

_EVERY_NETWORK = ("0.0.0.0:", "[::]:")


def cluster_problems(cluster: ClusterSettings) -> Iterator[tuple[str, str]]:
    """Yield the path of each problem, and what it is."""
    for index, address in enumerate(cluster.join):
        if not is_address(address):
            yield f"cluster.join[{index}]", f"{shorten(address)} is no address; write HOST:PORT"
    if not _is_ip(cluster.bind):
        yield "cluster.bind", f"{shorten(cluster.bind)} is no IP address of this machine with a port; write IP:PORT"
    elif cluster.advertise is None and cluster.bind.startswith(_EVERY_NETWORK):
        yield "cluster.bind", "others cannot send there; set `cluster.advertise` to an IP address of this machine"
    elif all(map(is_address, cluster.join)):
        seed = of_another_family(split_address(cluster.bind)[0], cluster.join)
        if seed:
            yield "cluster.join", f"{shorten(seed)} is not of the same family as `cluster.bind`: IPv4 or IPv6 for all"
    if cluster.advertise is not None and not _is_ip(join_address(cluster.advertise, 0)):
        yield "cluster.advertise", f"{shorten(cluster.advertise)} is no IP address"
    if cluster.name is not None and not is_id(cluster.name):
        yield "cluster.name", f"{shorten(cluster.name)} is no name; use letters, digits and ._:@-, 64 at most"
    if cluster.secret is None:
        if cluster.join:
            yield "cluster.join", "there is no cluster without `cluster.secret`; write the same one for all members"
    elif len(cluster.secret.reveal()) < SECRET_CHARACTERS_MIN:
        yield "cluster.secret", f"is too short; {SECRET_CHARACTERS_MIN} characters are the least"


def _is_ip(address: str) -> bool:
    try:
        ip_address(split_address(address)[0])
    except ValueError:
        return False
    return True
