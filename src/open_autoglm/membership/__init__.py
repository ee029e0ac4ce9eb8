"""Who is there and how busy: a failure detector and gossip between servers and nodes. Pure: time and chance are given.

`Swim` is the machine; `wire` and `seal` are what its messages look like. `open_autoglm.cluster` drives it on sockets.
"""

from open_autoglm.membership.errors import GossipError as GossipError
from open_autoglm.membership.load import LOAD_BYTES as LOAD_BYTES
from open_autoglm.membership.load import LoadReport as LoadReport
from open_autoglm.membership.load import read_load as read_load
from open_autoglm.membership.load import write_load as write_load
from open_autoglm.membership.member import Member as Member
from open_autoglm.membership.member import Record as Record
from open_autoglm.membership.settings import SwimSettings as SwimSettings
from open_autoglm.membership.swim import Swim as Swim
