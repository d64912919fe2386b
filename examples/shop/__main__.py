"""`python -m examples.shop`: a scripted visit in the terminal, then the shop, until Ctrl-C."""

import argparse
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from examples.shop.catalogue import RETAIL
from examples.shop.walk import ROOT, VISIT, Service, Walk

PORT = 8000


def main() -> int:
    """The exit code: 0 if every expectation of the walk held."""
    given = _arguments()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    data = _data(given.data)
    with tempfile.TemporaryDirectory(prefix="statehold-shop-") as folder:
        backend = given.backend or f"sqlite:///{folder}/shop.db"
        service = Service(_port(given.port), backend, data)
        print(f"products  {'retail catalogue in ' + str(data) if data else 'its own'}")
        print(f"state     {backend}")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            service.start()
            print(f"service   process {service.pid} at {service.url}")
            walk = Walk(service)
            held = walk.run()
            print(f"\n{'Everything held.' if held else f'{walk.failed} expectations failed.'}")
            if not given.exit:
                print(f"\nThe same visit in your browser: {service.url}/?visit={VISIT}")
                print(f"A new one: {service.url}/\nCtrl-C ends it.")
                service.wait()
        except KeyboardInterrupt:
            print()
        except (OSError, RuntimeError) as error:
            print(f"examples.shop: {error}", file=sys.stderr)
            return 1
        finally:
            service.stop()
    return 0 if held else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.shop", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end after the scripted visit")
    parser.add_argument("--port", type=int, help=f"where to serve (default: {PORT} if it is free)")
    parser.add_argument(
        "--backend",
        metavar="URL",
        help="the backend (default: sqlite:///shop.db in a temporary folder)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help=f"folder of {RETAIL} (default: $STATEHOLD_DATA)"
    )
    return parser.parse_args()


def _data(given: Path | None) -> Path | None:
    """The folder with the retail catalogue; None for the shop's own."""
    named = given or os.environ.get("STATEHOLD_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if (folder / RETAIL).is_file():
        return folder.resolve()
    if given:
        sys.exit(f"examples.shop: there is no {RETAIL} in {folder}")
    return None


def _port(given: int | None) -> int:
    """The given port, or the usual one, or any that is free."""
    for port in [given] if given else [PORT, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    sys.exit(f"examples.shop: port {given} is taken")


if __name__ == "__main__":
    sys.exit(main())
