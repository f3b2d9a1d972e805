"""The smallest instance there is: answers 200 to everything, one connection after the other, in 8 MB.

`python -I -S loadtests/tiny_app.py PORT`: hundreds of them fit on one machine.
"""

import select
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def main() -> None:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", int(sys.argv[1])))
    listening.listen(64)
    while True:
        connection, _ = listening.accept()
        with connection:
            # A probe that only connects sends nothing.
            if select.select([connection], [], [], 1.0)[0] and connection.recv(65536):
                connection.sendall(ANSWER)


if __name__ == "__main__":
    main()
