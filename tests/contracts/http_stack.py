"""Everything at one address, as `depotgrid up` runs it: database, broker, worker, both APIs, tokens; and a depot in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
import requests
import yaml
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from command_api.access_rules import ACCESS_RULES as COMMAND_RULES
from operator_cli.embedded_process import free_port
from read_api.visibility import ACCESS_RULES as READ_RULES
from service_runtime.access import Role
from service_runtime.dev_key import DEV_PATH, DevGrant, DevKey, access_token, load_dev_key

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 60.0
_DEPOT = "depot-1"
_SPARE = "spare"
_ADMIN = DevGrant("tester", "admin", None, None)


def _bearer(key: DevKey, issuer: str, grant: DevGrant, now_s: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token(key, issuer, grant, now_s=now_s, ttl_s=3600)}"}


class Stack:
    """A running `depotgrid up` with the example depot, its things' ids by the names of path parameters, and callers of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._mqtt_port = free_port()
        self._callers: dict[object, dict[str, str]] = {}
        self.ids: dict[str, str] = {}
        self.site: dict[str, Any] = yaml.safe_load((ROOT / "deploy/examples/depot-1.yaml").read_text(encoding="utf-8"))

    def __enter__(self) -> Stack:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPOTGRID_")}
        command = [sys.executable, "-m", "operator_cli", "up", "--data-dir", str(self._folder / "data")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--port", self.url.rpartition(":")[2], "--mqtt-port", str(self._mqtt_port)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**environment, "DEPOTGRID_AUTH": "dev"},
                cwd=self._folder,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("depotgrid is up"), self.said()
        self._key = load_dev_key(self._folder / "data" / "dev-issuer-key.json")
        self.session = requests.Session()
        # A look at the environment for a proxy takes longer than many a request.
        self.session.trust_env = False
        self.http = httpx2.Client(base_url=self.url, timeout=30, headers=self.caller("admin"))
        self._fill()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.http.close()
        self.session.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(_PATIENCE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def said(self) -> str:
        """What its processes logged."""
        return (self._folder / "log").read_text(encoding="utf-8")

    def caller(self, role: Role, depots: list[str] | None = None, gateway_id: str | None = None) -> dict[str, str]:
        """The header of a token with a role, for depots (all where left out)."""
        asked = (role, tuple(depots or ()), gateway_id)
        if asked not in self._callers:
            self._callers[asked] = self.token(f"{self.url}{DEV_PATH}", DevGrant("tester", role, depots, gateway_id))
        return self._callers[asked]

    def token(self, issuer: str, grant: DevGrant = _ADMIN, *, now_s: int | None = None) -> dict[str, str]:
        """The header of a token as the key of the local issuer signs it, good for an hour."""
        return _bearer(self._key, issuer, grant, int(time.time()) if now_s is None else now_s)

    def forged(self, issuer: str) -> dict[str, str]:
        """The header of a token that another key signed."""
        return _bearer(load_dev_key(self._folder / "other-key.json"), issuer, _ADMIN, int(time.time()))

    def allowed(self, operation: str) -> dict[str, str]:
        """The header of a token that may do an operation (`POST /api/depot`)."""
        roles = {**COMMAND_RULES, **READ_RULES}[operation]
        return self.caller("admin") if roles != "device" else self.caller("device", gateway_id=self.ids["gateway_id"])

    def refused(self, operation: str) -> dict[str, str]:
        """The header of a token that may not do it."""
        return self.caller("device" if operation.startswith("GET") else "viewer", gateway_id=None)

    def restore(self) -> None:
        """Make both depots what they were; ids of what stays stay."""
        self._put(_DEPOT, self.site)
        spare = {"depot": {"depot_id": _SPARE, "name": "Spare", "timezone": "UTC"}}
        self._put(_SPARE, {**spare, "circuits": [{"circuit_id": "spare-gc", "name": "Spare"}]})
        actions = self._get("/api/sensor_action", device_id="ctrl-1")["items"]
        self.ids["sensor_action_id"] = next(one["sensor_action_id"] for one in actions if one["measurand"] == "SOC")
        bindings = self._get(f"/api/depot/{_DEPOT}/controller-binding")["items"]
        self.ids["controller_binding_id"] = next(one["controller_binding_id"] for one in bindings if one["device_id"] == "ctrl-1")
        self.ids["microgrid_id"] = self._get(f"/api/depot/{_DEPOT}/microgrid")["microgrid_id"]

    def packet(self, packet_id: str, **changed: Any) -> dict[str, Any]:
        """A packet of the depot's controller, sent now."""
        known = {"schema_version": "1.0", "packet_id": packet_id, "gateway_id": "gw-1", "device_id": "ctrl-1"}
        said = [{"key": "PEAK_SHAVING", "value": True}, {"key": "SOC", "value": 55}, {"key": "HEARTBEAT_STATUS", "value": True}]
        return {**known, "sent_at": datetime.now(UTC).isoformat(), "measurands": said, **changed}

    def _fill(self) -> None:
        for kind in ("circuit", "charge_point", "connector", "power_source", "gateway", "device"):
            self.ids[f"{kind}_id"] = self.site[f"{kind}s"][-1][f"{kind}_id"]
        self.ids["depot_id"] = _DEPOT
        self.restore()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.connect("127.0.0.1", self._mqtt_port)
        client.loop_start()
        for packet in (self.packet("p-1"), self.packet("p-2", measurands=[])):
            client.publish("iot/v1/gw-1/ctrl-1/packet", json.dumps(packet), qos=1).wait_for_publish(_PATIENCE_S)
        letters = self._until(lambda: self._get("/api/dead-letter")["items"])
        client.loop_stop()
        client.disconnect()
        self.ids["dead_letter_id"] = letters[0]["dead_letter_id"]
        self._until(lambda: self._get("/api/device/ctrl-1/measurement")["items"])

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        answered = self.http.get(path, params=query)
        assert answered.status_code == 200, answered.text
        return answered.json()

    def _put(self, depot_id: str, document: Mapping[str, Any]) -> None:
        answered = self.http.put(f"/api/depot/{depot_id}/site", json=document)
        assert answered.status_code == 200, answered.text

    def _until(self, ask: Callable[[], list[Any]]) -> list[Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := ask()):
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return found
