"""Answers that break the rules of HTTP or TLS, or come too late."""

import trustme

from tests.sick.case import Case, Peer, Stream, Truth, table
from tests.sick.cases.endings import given
from tests.sick.scene import Scene

FEED = (Stream("/", 8), Stream("/feed", 2, late=True))
PROBE = 'path = "/"\ninterval = "1s"'


def with_certificate(scene: Scene) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(scene.cwd / "key.pem"))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(scene.cwd / "cert.pem"), append=number > 0)
    scene.copy("vault.py")
    scene.copy("web.py")
    scene.words["ONE"] = str(scene.run("ONE", scene.words["PYTHON"], "vault.py", "cert.pem", "key.pem"))


def _feed(name: str, what: str, kind: str, truth: Truth, *, quick: bool = False) -> Case:
    return Case(name, what, table(f"@PYTHON@ gate.py {kind}", instances=2, health=PROBE), truth, streams=FEED,
                ask_path="/feed", quick=quick)  # fmt: skip


WIRE = (
    _feed("reset", "GET /feed resets the connection without a word, and logs nothing", "a",
          Truth(right=("reset",), names=("/feed",), unknown=True)),
    _feed("truncated", "GET /feed says 100,000 bytes and closes after 4,700", "b",
          Truth(right=("truncated",), names=("/feed", "4,700", "4700"))),
    _feed("bad-status-line", "GET /feed answers `HTTP/1.1 OK 200`", "c",
          Truth(right=("malformed",), names=("/feed",)), quick=True),
    _feed("bad-field", "GET /feed has a line break in a header field", "d",
          Truth(right=("malformed",), names=("/feed",))),
    _feed("bad-chunk", "GET /feed sends a chunk whose size is not a number", "e",
          Truth(right=("malformed",), fine=("truncated",), names=("/feed", "chunk"))),
    _feed("two-lengths", "GET /feed has two different Content-Length fields", "g",
          Truth(right=("malformed",), names=("/feed", "Content-Length"))),
    _feed("huge-head", "GET /feed sets a cookie of 90 KB: the head is over the limit", "f",
          Truth(right=("head-too-large",), names=("/feed", "head"))),
    Case(
        "closed-by-error",
        "GET /item/9 raises KeyError in a bare http.server, which prints a traceback and closes without an answer",
        table("@PYTHON@ cart.py", instances=2, health=PROBE),
        Truth(right=("exception",), fine=("closed",), names=("KeyError",)),
        streams=(Stream("/item/1", 8), Stream("/item/9", 2, late=True)), ask_path="/item/9", quick=True,
    ),
    Case(
        "tls-to-plain",
        "The address says https://, and the app speaks plain HTTP there",
        table(addresses='"https://127.0.0.1:@ONE@"', health='interval = "2s"'),
        Truth(right=("tls",), names=("https", "TLS")),
        streams=(Stream("/", 4, timeout=10),), starts=False, before=3, ask=("tls-error",),
        prepare=lambda scene: given(scene, ONE="catalog.py"),
    ),
    Case(
        "bad-certificate",
        "The app's certificate is of an authority that nobody trusts",
        table(addresses='{ url = "https://127.0.0.1:@ONE@", tls = { verify = true } }', health='interval = "2s"'),
        Truth(right=("certificate",), fine=("tls",)),
        streams=(Stream("/", 4, timeout=10),), starts=False, before=3, ask=("tls-certificate",),
        prepare=with_certificate,
    ),
    Case(
        "slow-path",
        "GET /report takes 6 s, and first_byte is 2 s; all else is quick",
        table("@PYTHON@ reports.py 6", instances=2, app='timeouts = { first_byte = "2s" }'),
        Truth(right=("slow-handler",), names=("/report", "build")),
        streams=(Stream("/", 10), Stream("/report", 1, late=True)), ask=("head-timeout",), quick=True,
    ),
    Case(
        "address-closes",
        "The instance at a given address accepts, reads and closes; nothing there says why",
        table(addresses='"http://@PLACE@"', health='interval = "2s"'),
        Truth(right=("closed",), unknown=True), peers={"PLACE": Peer("shut")},
        streams=(Stream("/", 4, timeout=10),), starts=False, before=3, ask=("closed-before-head",),
    ),
    Case(
        "address-dead",
        "Nothing listens at a given address",
        table(addresses='"http://127.0.0.1:@FREE@"', health='interval = "2s"'),
        Truth(right=("not-listening",), names=("@FREE@",), unknown=True),
        streams=(Stream("/", 4, timeout=10),), starts=False, before=3,
    ),
)  # fmt: skip
