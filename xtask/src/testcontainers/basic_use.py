"""testcontainers-python's basic use: each function is one thing that its documentation shows."""

import sys
import tempfile
import time
import traceback
import urllib.request
from pathlib import Path

import docker
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy
from testcontainers.core.waiting_utils import wait_for_logs

IMAGE = "busybox:latest"
WEB = ["sh", "-c", "mkdir /www; echo page > /www/index.html; echo serving; exec httpd -f -p 80 -h /www"]


def fetch(url):
    for _ in range(100):
        try:
            return urllib.request.urlopen(url, timeout=5).read().decode().strip()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def exposed_port():
    with DockerContainer(IMAGE).with_command(WEB).with_exposed_ports(80) as web:
        host, port = web.get_container_host_ip(), int(web.get_exposed_port(80))
        assert port > 0
        assert fetch(f"http://{host}:{port}/") == "page"


def bound_port():
    with DockerContainer(IMAGE).with_command(WEB).with_bind_ports(80, 18099) as web:
        assert int(web.get_exposed_port(80)) == 18099
        assert fetch("http://localhost:18099/") == "page"


def logs():
    with DockerContainer(IMAGE).with_command(["sh", "-c", "echo out; echo err >&2; sleep 100"]) as talker:
        wait_for_logs(talker, "out", timeout=20)
        out, err = talker.get_logs()
        assert out == b"out\n" and err == b"err\n", (out, err)


def wait_strategies():
    strategy = LogMessageWaitStrategy("serving").with_startup_timeout(20)
    with DockerContainer(IMAGE).with_command(WEB).waiting_for(strategy) as web:
        assert b"serving" in web.get_logs()[0]
    strategy = HttpWaitStrategy(80, "/").for_status_code(200).with_startup_timeout(20)
    with DockerContainer(IMAGE).with_command(WEB).with_exposed_ports(80).waiting_for(strategy) as web:
        assert fetch(f"http://localhost:{web.get_exposed_port(80)}/") == "page"


def execution():
    with DockerContainer(IMAGE).with_command("sleep 100") as sleeper:
        done = sleeper.exec("echo hello")
        assert (done.exit_code, done.output) == (0, b"hello\n"), done
        assert sleeper.exec(["sh", "-c", "exit 3"]).exit_code == 3


def environment_and_volume():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "given").write_text("by the host")
        box = DockerContainer(IMAGE).with_env("GREETING", "hi").with_volume_mapping(folder, "/in", "rw")
        with box.with_command("sleep 100") as sleeper:
            assert sleeper.exec(["sh", "-c", "echo $GREETING"]).output == b"hi\n"
            assert sleeper.exec("cat /in/given").output == b"by the host"
            assert sleeper.exec(["sh", "-c", "echo back > /in/taken"]).exit_code == 0
            assert Path(folder, "taken").read_text() == "back\n"


def copied_in():
    with DockerContainer(IMAGE).with_command("sleep 100").with_copy_into_container(b"content", "/tmp/f", 0o644) as box:
        assert box.exec("cat /tmp/f").output == b"content"


def network():
    with Network() as shared:
        web = DockerContainer(IMAGE).with_command(WEB).with_network(shared).with_network_aliases("web")
        client = DockerContainer(IMAGE).with_command("sleep 100").with_network(shared)
        with web, client:
            for _ in range(100):
                done = client.exec("wget -q -O- http://web/")
                if done.exit_code == 0:
                    break
                time.sleep(0.1)
            assert done.output == b"page\n", done


def nothing_left():
    client = docker.from_env()
    assert client.containers.list(all=True) == []
    assert [n.name for n in client.networks.list() if n.name not in ("bridge", "host", "none")] == []
    assert client.volumes.list() == []


CASES = [exposed_port, bound_port, logs, wait_strategies, execution, environment_and_volume, copied_in, network, nothing_left]

failed = 0
for case in CASES:
    begun = time.monotonic()
    try:
        case()
        verdict = "ok"
    except Exception:
        traceback.print_exc()
        verdict, failed = "FAILED", failed + 1
    print(f"{case.__name__:24} {verdict:6} {time.monotonic() - begun:5.1f} s", flush=True)
print(f"{len(CASES) - failed} of {len(CASES)} pass")
sys.exit(1 if failed else 0)
