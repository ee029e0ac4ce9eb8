"""How cooperation asks models; the request path makes what fulfils it, see `gateway.member_call`."""

from open_autoglm.backends.caller import CallerSource, ModelCaller, Origin, Reply

__all__ = ["CallerSource", "ModelCaller", "Origin", "Reply"]
