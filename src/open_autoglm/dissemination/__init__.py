"""Small facts that all members of a cluster come to agree on. Pure: time is given, bytes come in and go out.

`ReplicatedMap` holds them, `ConflictLog` what was written at once by several, `DeltaLink` brings changes to one other
member over datagrams that get lost, `ParityWriter` and `ParityReader` make some losses good without asking again.
"""

from open_autoglm.dissemination.conflict_log import Conflict as Conflict
from open_autoglm.dissemination.conflict_log import ConflictLog as ConflictLog
from open_autoglm.dissemination.delta_link import DeltaLink as DeltaLink
from open_autoglm.dissemination.delta_link import LinkSettings as LinkSettings
from open_autoglm.dissemination.entry import DisseminationError as DisseminationError
from open_autoglm.dissemination.entry import Entry as Entry
from open_autoglm.dissemination.entry import Told as Told
from open_autoglm.dissemination.parity import ParityReader as ParityReader
from open_autoglm.dissemination.parity import ParityWriter as ParityWriter
from open_autoglm.dissemination.replicated_map import Reading as Reading
from open_autoglm.dissemination.replicated_map import ReplicatedMap as ReplicatedMap
from open_autoglm.dissemination.replicated_map import WriteConflict as WriteConflict
