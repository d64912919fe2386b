"""A scripted visitor, and the service as a process of its own that can be killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

ROOT = Path(__file__).parents[2]
VISIT = "walk"

_open = build_opener(ProxyHandler({})).open  # the service is on this machine


class Service:
    """The shop, running in a process of its own."""

    def __init__(self, port: int, backend: str, data: Path | None) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**os.environ, "SHOP_BACKEND": backend, "SHOP_DATA": str(data or "")}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, patience: float = 60) -> None:
        """It answers. Raises `RuntimeError` if it ends instead, or takes longer than `patience`."""
        arguments = ["--factory", "examples.shop.app:create", "--app-dir", str(ROOT)]
        arguments += ["--port", str(self.port), "--log-level", "warning"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *arguments], env=self._environment
        )
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"the service ended with code {self._process.returncode}")
            try:
                if self.call("GET", "/healthz")["process"] == self.pid:
                    return
            except URLError:
                time.sleep(0.05)
        raise RuntimeError(f"the service did not answer within {patience:g} s")

    def kill(self) -> None:
        """It is gone, with whatever it had in memory: `kill -9`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """It has ended in good order, if it was running."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def wait(self) -> int:
        """The code with which it ends."""
        assert self._process is not None
        return self._process.wait()

    def call(self, method: str, path: str, **body: Any) -> Any:
        """What it answers."""
        data = json.dumps(body).encode() if body else None
        headers = {"Content-Type": "application/json"}
        request = Request(self.url + path, data, headers, method=method)  # noqa: S310
        with _open(request, timeout=30) as response:
            content = response.read()
        return json.loads(content) if content else None


class Walk:
    """What the visitor does, what the shop shows, and whether it is as it should be."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.failed = 0
        self.now: dict[str, Any] = {}

    def run(self) -> bool:
        """The whole visit, printed; whether every expectation held."""
        self._ask()
        self._restart()
        self._blue_ones()
        self._click()
        self._more_like_that()
        self._something_else()
        self._another_visitor()
        return self.failed == 0

    # ---------------------------------------------------------------------------------- the chapters

    def _ask(self) -> None:
        self.service.call("DELETE", self._path())
        self._say("I'm looking for running shoes")
        self.kind = self.now["state"]["filters"]["kind"]
        self._expect(f"all are {self.kind}s", self._all(self._is_kind))
        self._say("Under $150")
        self._expect(
            f"still {self.kind}s, and none over $150", self._all(self._is_kind, self._affordable)
        )

    def _restart(self) -> None:
        before = self._look()
        self._title(f"kill -9 {self.service.pid}: the process is gone in the middle of the visit")
        self.service.kill()
        self.service.start()
        after = self._look()
        print(f"  a new process, {self.service.pid}, has opened the same store")
        print(f"  state     revision {after['revision']}, {len(after['conversation'])} messages")
        same = _lasting(before) == _lasting(after)
        self._expect("revision, state and products are as they were", same)

    def _blue_ones(self) -> None:
        self._say("Show me blue ones")
        self._expect(
            f"blue {self.kind}s, none over $150: it still knew the other two",
            self._all(self._is_kind, self._affordable, self._blue),
        )

    def _click(self) -> None:
        before = self._ranks()
        shown = [product["id"] for product in self.now["products"]]
        clicked = self.now["products"][2]
        self._title(f"The visitor clicks on {clicked['name']}")
        self.now = self.service.call("POST", f"{self._path()}/click", product=clicked["id"])
        after = self._ranks()
        self._print_state("clicks", "trail", "ignored")
        self._print_ranks(before, after, shown)
        passed = [id for id in shown if id != clicked["id"]]
        ignored = self.now["state"]["ignored"]
        self._expect("it is first at once", after[clicked["id"]] == 1)
        self._expect("the order of the others has changed too", _order(before) != _order(after))
        self._expect("what stood beside it counts as ignored", set(passed) == ignored.keys())

    def _more_like_that(self) -> None:
        focus = self.now["focus"]
        self._say("more like that")
        self._expect(
            f"“that” is {focus['name']}; still blue, still none over $150",
            self.now["state"]["filters"]["like"] == focus["id"]
            and self._all(self._is_kind, self._affordable, self._blue),
        )
        likeness = [product["why"]["relevance"] for product in self._ranking()]
        self._expect("each of them is like it", min(likeness[:3]) > 0)

    def _something_else(self) -> None:
        self._say("any colour")
        self._expect("not only blue any more", not self._all(self._blue))
        before = self._ranks()
        shown = [product["id"] for product in self.now["products"]]
        self._say("something else")
        after = self._ranks()
        self._print_ranks(before, after, shown)
        now = {product["id"] for product in self.now["products"]}
        self._expect("nothing that was on the page is on it again", now.isdisjoint(shown))
        sunk = [after[id] - before[id] for id in shown]
        self._expect(f"it sank by {sum(sunk) / len(sunk):.0f} ranks on average", sum(sunk) > 0)
        prices = [product["price"] for product in self.now["products"]]
        self._say("cheaper")
        limit = sum(prices) / len(prices)
        cheaper = self._all(lambda product: product["price"] < limit)
        self._expect(f"all are below ${limit:.2f}, the mean of what was shown", cheaper)

    def _another_visitor(self) -> None:
        self._title("Another visitor comes in")
        other = self.service.call("GET", "/api/visits/another")["state"]
        self._expect("nothing is known about them", not other["filters"] and not other["clicks"])
        mine = _lasting(self._look())
        self._expect("and the first visit is as it was", mine == _lasting(self.now))

    # ---------------------------------------------------------------------------- what they are made of

    def _say(self, text: str) -> None:
        self._title(f"“{text}”")
        self.now = self.service.call("POST", f"{self._path()}/say", text=text)
        print(f"  {self.now['conversation'][-1]['text']}")
        for product in self.now["products"]:
            colours = "/".join(product["colours"]) or "-"
            print(f"    ${product['price']:<7.2f} {colours:<12.12} {product['name']}")
        self._print_state("filters", "focus")
        self._expect("it was committed", self.now["remembered"])

    def _look(self) -> dict[str, Any]:
        return self.service.call("GET", self._path())  # type: ignore[no-any-return]

    def _ranking(self) -> list[dict[str, Any]]:
        return self.service.call("GET", f"{self._path()}/ranking")["products"]  # type: ignore[no-any-return]

    def _ranks(self) -> dict[str, int]:
        return {product["id"]: rank for rank, product in enumerate(self._ranking(), 1)}

    def _path(self) -> str:
        return f"/api/visits/{VISIT}"

    def _is_kind(self, product: dict[str, Any]) -> bool:
        return self.kind in (product["style"], product["category"])

    @staticmethod
    def _affordable(product: dict[str, Any]) -> bool:
        return bool(product["price"] <= 150)

    @staticmethod
    def _blue(product: dict[str, Any]) -> bool:
        return "blue" in product["colours"]

    def _all(self, *tests: Any) -> bool:
        products = self.now["products"]
        return bool(products) and all(test(product) for product in products for test in tests)

    # --------------------------------------------------------------------------------------- printing

    def _title(self, text: str) -> None:
        print(f"\n{_styled('1', text)}")

    def _print_state(self, *fields: str) -> None:
        names = self.now["names"]
        shown = {field: self.now["state"][field] for field in fields if self.now["state"][field]}
        text = json.dumps(shown, ensure_ascii=False)
        for id, name in names.items():
            text = text.replace(f'"{id}"', f"“{name}”")
        print(_styled("36", f"  state     {text}"))

    def _print_ranks(self, before: dict[str, int], after: dict[str, int], ids: list[str]) -> None:
        for id in ids:
            print(f"    rank {before[id]:>2} → {after[id]:<2}  {self.now['names'].get(id, id)}")

    def _expect(self, claim: str, held: bool) -> None:
        self.failed += not held
        print(f"  {_styled('32', '✓') if held else _styled('31', '✗')} {claim}")


def _lasting(answer: dict[str, Any]) -> Any:
    """What does not change by the mere passing of time, as a taste and a rate do."""
    shown = [product["id"] for product in answer["products"]]
    fading = ("taste", "rate")
    state = {name: value for name, value in answer["state"].items() if name not in fading}
    return answer["revision"], shown, state


def _order(ranks: dict[str, int]) -> list[str]:
    return sorted(ranks, key=ranks.__getitem__)


def _styled(code: str, text: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\033[{code}m{text}\033[0m"
