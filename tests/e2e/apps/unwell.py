"""An app that is sick on demand: `python unwell.py PORT`. Routes do what their names say.

Environment: IGNORE_TERM; GRANDCHILDREN (it leaves two, one in a session of its own); START (seconds before it listens);
FLAG, a file whose word decides at each start: `exit`, `hang`, `wrong-port`, or `flap SECONDS`, to end by itself then.
"""

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

held = threading.Lock()
leaked: list[bytearray] = []
served = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and content in one write: killed between two, it would leave half an answer

    def do_GET(self) -> None:
        global served
        url = urlsplit(self.path)
        asked = {name: float(values[0]) for name, values in parse_qs(url.query).items()}
        with held:
            served += 1
            match url.path:
                case "/deadlock":
                    self.take_it_again()
                case "/exit":
                    print("ending as I was asked to", flush=True)
                    os._exit(3)
                case "/leak":
                    leaked.append(bytearray(os.urandom(1) * int(asked["mb"] * 2**20)))
        if url.path == "/slow":
            time.sleep(asked.get("ms", 1000) / 1000)
        status = 500 if url.path.startswith("/error") else 200
        self.answer(status, f"{os.environ.get('TRIAGE_INSTANCE')} {os.getpid()} {served}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def take_it_again(self) -> None:
        held.acquire()

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    port = int(sys.argv[1])
    if os.environ.get("IGNORE_TERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if os.environ.get("GRANDCHILDREN"):
        for alone in (False, True):
            subprocess.Popen(["sleep", "1000"], start_new_session=alone)
    time.sleep(float(os.environ.get("START", "0")))
    flag = Path(os.environ.get("FLAG", "/nonexistent"))
    word, _, after = (flag.read_text().strip() if flag.exists() else "").partition(" ")
    if word == "exit":
        sys.exit("told to fail")
    if word == "hang":
        signal.pause()
    if word == "wrong-port":
        port = 0
    if word == "flap":
        threading.Timer(float(after), lambda: os._exit(4)).start()
    print("listening", flush=True)
    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
