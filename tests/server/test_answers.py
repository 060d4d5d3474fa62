"""What servers answer that are none of MLflow's, want a key, or stand behind TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.server.conftest import Server
from tests.server.doors import Certificate, Door, certificate
from tests.server.test_outage import assert_complete, record_epochs
from vae_lab import tracking
from vae_lab.errors import LabError, UserError
from vae_lab.tracking import Store
from vae_lab.tracking.servers import trouble_with
from vae_lab.tracking.spool import backlogs

Lab = Callable[..., tuple[int, str, str]]
MISTAKES = {
    400: "answers with HTTP error 400 (the plain words of it).",
    401: "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token in MLFLOW_TRACKING_TOKEN.",
    403: "answers with HTTP error 403 (the plain words of it). Ask whoever runs it for access",
    404: "MLflow's API is not at this address",
    405: "answers with HTTP error 405",
    407: "answers with HTTP error 407",
}
OUTAGES = (408, 429, 500, 502, 503, 504)
FOREIGN = ("", "OK", "<html>Welcome to nginx!</html>", "[]", '"no"', '{"hello": "world"}')


@pytest.fixture
def door() -> Iterator[Door]:
    """A server that is not MLflow's."""
    with Door() as opened:
        yield opened


@pytest.mark.parametrize("status", MISTAKES)
def test_a_server_that_says_no_is_named_with_its_reason_and_not_waited_for(door: Door, status: int) -> None:
    door.answer = (status, "the plain words of it\nand more")
    with pytest.raises(UserError) as refused:
        Store.open(door.address, wait=300)
    assert str(refused.value).startswith(f"{door.address}: the tracking server ")
    assert MISTAKES[status] in str(refused.value)
    door.answer = (status, '{"detail": "of a stranger"}')
    with pytest.raises(UserError, match=f"HTTP error {status}"):
        Store.open(door.address, wait=300)


@pytest.mark.parametrize("body", FOREIGN)
def test_a_web_server_that_is_not_mlflows_is_named_as_such(door: Door, body: str) -> None:
    door.answer = (200, body)
    with pytest.raises(UserError, match=r"the tracking server is no MLflow server\.$"):
        Store.open(door.address, wait=300)


@pytest.mark.parametrize("status", OUTAGES)
def test_a_server_that_may_answer_later_is_waited_for(
    door: Door, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    door.answer = (status, "<html>busy</html>")
    with pytest.raises(LabError, match=rf"does not answer \(HTTP error {status}\)\. Start it, or"):
        Store.open(door.address)
    later = threading.Timer(0.2, lambda: setattr(door, "answer", (200, "{}")))
    later.start()
    Store.open(door.address, wait=60)
    later.join()
    assert f"does not answer (HTTP error {status}). Waiting up to 60 s." in caplog.text


def test_a_user_or_a_token_of_the_environment_is_shown_to_the_server(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.answer = (200, "{}")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-token")
    assert trouble_with(door.address) is None
    assert door.headers["authorization"] == "Bearer a-token"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-password")
    assert trouble_with(door.address) is None
    assert door.headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("token", ["two\nlines", "größe€"])
def test_a_token_that_cannot_be_sent_is_said(door: Door, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    with pytest.raises(UserError, match="a user, password or token, has signs that cannot be sent"):
        Store.open(door.address, wait=300)


def test_a_multirun_whose_address_lacks_a_path_ends_at_once(lab: Lab, server: str) -> None:
    code, _, err = lab("-m", *SMALL, "seed=0,1", f"tracking.uri={server}/lab")
    assert code == 2
    assert err.count("\n") == 1
    assert "MLflow's API is not at this address" in err


def test_an_address_that_leads_elsewhere_is_told_with_where(door: Door) -> None:
    with Door() as moved:
        moved.answer, moved.more = (301, ""), {"Location": f"{door.address}/login?token=secret"}
        door.answer = (200, "{}")
        with pytest.raises(UserError, match=rf"leads on to {door.address}\. Give that address\.$"):
            Store.open(moved.address, wait=300)


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(server: str, folder: Path) -> None:
    nobody = "http://127.0.0.1:9"
    names = ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY")
    environment = os.environ | dict.fromkeys(names, nobody) | {"no_proxy": "example.org"}
    program = (
        "import sys; from vae_lab.tracking import RUN, Store\n"
        "Store.open(sys.argv[1]).start('lab', 'a', kind=RUN).finish('FINISHED')"
    )
    for address in (server, server.replace("127.0.0.1", "localhost")):
        subprocess.run([sys.executable, "-c", program, address], env=environment, check=True, timeout=120)


def test_a_proxy_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(LabError, match="the proxy that http_proxy or https_proxy names does not answer"):
        Store.open("http://somewhere.invalid:5000")


def test_an_experiment_that_may_not_be_made_is_one_line(mlflow_server: Server) -> None:
    with Door(mlflow_server.port) as door:
        store = Store.open(door.address, wait=300)
        door.refused = "/experiments/create"
        with pytest.raises(UserError, match="the server answers with HTTP error 403"):
            store.start("of somebody else", "run", kind=tracking.RUN)


def test_a_store_that_gives_no_access_any_more_is_not_waited_for(mlflow_server: Server) -> None:
    with Door(mlflow_server.port) as door:
        store = Store.open(door.address, wait=300)
        for status, body in ((403, "no"), (401, '{"error_code": "UNAUTHENTICATED", "message": "who?"}')):
            door.answer = (status, body)
            with pytest.raises(UserError, match=rf"answers with HTTP error {status} \(.*(no|who\?)\)"):
                store.tagged(tracking.KIND, tracking.RUN)


def test_a_run_outlasts_whatever_its_server_answers_meanwhile(mlflow_server: Server) -> None:
    answers = [
        (401, "who?"),
        (403, "no"),
        (404, ""),
        (405, ""),
        (429, ""),
        (502, ""),
        (503, ""),
        (200, "<html>"),
    ]
    with Door(mlflow_server.port) as door:
        store = Store.open(door.address)
        recorder = store.start("lab", "behind a door", kind=tracking.RUN)
        for number, answer in enumerate(answers):
            record_epochs(recorder, range(10 * number, 10 * number + 3))
            store.courier.settle_all()
            door.answer = answer
            record_epochs(recorder, range(10 * number + 3, 10 * number + 10))
            while not store.courier.away:
                time.sleep(0.02)
            door.answer = None
        door.answer = (404, "")  # the first that it gets is a picture
        record_epochs(recorder, range(80, 83))
        while not store.courier.away:
            time.sleep(0.02)
        door.answer = None
        recorder.finish("FINISHED")
        assert list(backlogs(tracking.spool_folder(store.uri))) == []
        assert_complete(store, recorder.run_id, 83)


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


@needs_openssl
def test_a_server_behind_tls_is_asked_as_mlflows_client_asks_it(
    mlflow_server: Server, pem: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Door(mlflow_server.port, shown=pem) as door:
        with pytest.raises(
            UserError, match=r"not trusted \(self.signed certificate\)\. Name .*SERVER_CERT_PATH"
        ):
            Store.open(door.address, wait=300)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "absent.pem"))
        with pytest.raises(UserError, match=r"cannot be asked: .*absent\.pem"):
            Store.open(door.address, wait=300)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(pem.file))
        store = Store.open(door.address)
        recorder = store.start("lab", "behind TLS", kind=tracking.RUN)
        record_epochs(recorder, range(3))
        recorder.finish("FINISHED")
        assert_complete(store, recorder.run_id, 3)
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        with pytest.raises(UserError, match=r"cannot be asked: .*server_cert_path"):
            Store.open(door.address, wait=300)


@needs_openssl
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_certificate_that_nobody_vouches_for_can_be_trusted(
    door: Door, pem: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Door(door.server_port, shown=pem) as secure:
        door.answer = (200, "{}")
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        Store.open(secure.address)
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "perhaps")
        with pytest.raises(UserError, match=r"cannot be asked: .*MLFLOW_TRACKING_INSECURE_TLS"):
            Store.open(secure.address, wait=300)


@needs_openssl
def test_a_server_that_wants_a_certificate_gets_it_and_says_so_if_it_does_not(
    door: Door, pem: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Door(door.server_port, shown=pem, wanted=pem) as secure:
        door.answer = (200, "{}")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(pem.file))
        with pytest.raises(
            UserError, match=r"wants a certificate of yours .* MLFLOW_TRACKING_CLIENT_CERT_PATH\."
        ):
            Store.open(secure.address, wait=300)
        both = tmp_path / "both.pem"
        both.write_text(pem.key.read_text() + pem.file.read_text())
        monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(both))
        Store.open(secure.address)


def test_https_where_there_is_no_tls_is_named(door: Door) -> None:
    with pytest.raises(UserError, match="does not speak TLS: its address begins with http://"):
        Store.open(door.address.replace("http:", "https:"), wait=300)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:99999", "http://nowhere.invalid:5000"])
def test_a_host_that_is_none_is_named(uri: str) -> None:
    with pytest.raises(LabError, match=r"not an address|address is not valid|no such host"):
        Store.open(uri)
