"""Keys that are shown, proved, or stood for by a certificate."""

from __future__ import annotations

from open_autoglm.secret import Secret
from open_autoglm.security.keys import KeyRing, Principal
from open_autoglm.security.signature import SigningKey
from open_autoglm.transport.tls import names_of

ALICE, BOB = Principal("alice", None, None), Principal("bob", None, None)
KEYS = [(Secret("mcp_a"), ALICE), (Secret("mcp_b"), BOB)]
PEPPER = b"p" * 16


def test_a_key_is_found_by_itself_and_by_its_id_alone() -> None:
    ring = KeyRing(KEYS, PEPPER)
    assert (ring.find("mcp_a"), ring.find("mcp_b"), ring.find("mcp_c")) == (ALICE, BOB, None)
    found = ring.find_signer(SigningKey("mcp_b").id)
    assert found is not None
    assert found[1] is BOB
    assert found[0].client_proof(b"h", b"c") == SigningKey("mcp_b").client_proof(b"h", b"c")
    assert ring.find_signer("mcp_b") is None
    assert ring.find_signer(SigningKey("mcp_c").id) is None


def test_a_certificate_stands_for_whom_its_first_known_name_does() -> None:
    ring = KeyRing(KEYS, PEPPER, {"dns:b.example": BOB, "uri:spiffe://x/a": ALICE})
    assert ring.find_named(["dns:c.example", "uri:spiffe://x/a", "dns:b.example"]) is ALICE
    assert ring.find_named(["uri:b.example", "b.example", "dns:B.example"]) is None
    assert ring.find_named([]) is None


def test_names_of_a_certificate_are_those_of_hosts_and_uris() -> None:
    told = {
        "subject": ((("commonName", "dns:b.example"),),),
        "subjectAltName": (("DNS", "b.example"), ("IP Address", "10.0.0.1"), ("URI", "spiffe://x/a"), ("email", "b@x")),
    }
    assert names_of(told) == ("dns:b.example", "uri:spiffe://x/a")
    assert names_of({}) == names_of(None) == ()
