"""A stand-in engine: the few routes and the manners that the plugin relies on.

`--fault NAME` makes it misbehave: `start` (exits 3), `silent` (never ready), `exit` (ends with
status 5), `orphan` (leaves a child), `flags` (serves others than asked), `slow-ready`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMES = ("adaptive_governor", "http2_transport", "ttft_pipeline", "qos_monitoring")


def served(flags: str) -> dict[str, dict[str, object]]:
    on = NAMES if flags == "all" else tuple(flags.split("+"))
    return {n: {"enabled": n in on, "effective": 100 if n in on else 0} for n in NAMES}


def handler(options: argparse.Namespace) -> type[BaseHTTPRequestHandler]:
    flags = "off" if options.fault == "flags" else options.flags
    status = {
        "ready": True,
        "flags": served(flags),
        "model": {"name": options.model, "sha256": "5" * 64},
        "engine_version": "0.1.0",
        "commit": "c0ffee",
        "config_sha256": options.config_sha256,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/v1/status":
                self.answer(json.dumps(status))
            elif self.path == "/metrics":
                self.answer("phase5_streams_in_flight 0\n")
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = "echo " + body["messages"][-1]["content"]
            self.answer(json.dumps({"choices": [{"message": {"content": text}}]}))

        def answer(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fault", default="")
    parser.add_argument("--journal")
    parser.add_argument("--config-sha256", default="c" * 64)
    parser.add_argument("--model", default="stub")
    parser.add_argument("--flags", default="off")
    parser.add_argument("--port", type=int)
    parser.add_argument("--config")
    options = parser.parse_args()
    if options.fault == "start":
        sys.stderr.write("first line\nthe model folder /nowhere is missing\n")
        return 3
    if options.fault == "silent":
        signal.pause()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler(options))
    server.daemon_threads = True
    if options.fault == "orphan":
        subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    journal(options, "start")
    sys.stdout.write(f"ready http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.02)
    server.server_close()
    journal(options, "stop")
    return 5 if options.fault == "exit" else 0


def journal(options: argparse.Namespace, word: str) -> None:
    if options.journal:
        line = f"{word} {options.flags} {options.model} {os.getpid()}\n"
        with open(options.journal, "a", encoding="utf-8") as file:  # noqa: PTH123 - starts fast
            file.write(line)


if __name__ == "__main__":
    sys.exit(main())
