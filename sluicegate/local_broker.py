"""A real Kafka on loopback, without containers: for the demo, the benchmarks and the integration tests.

Maven fetches the broker's own jars once into a cache folder; every start formats a fresh KRaft storage in a
temporary folder, so nothing of one run reaches the next. Needs `java` (17 or newer) and, the first time, `mvn`.
"""

import contextlib
import fcntl
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

# Pinned: the settings below and the figures in the documentation were taken with these.
SCALA_VERSION = "2.13"
KAFKA_VERSION = "4.1.1"
SLF4J_VERSION = "1.7.36"

_READY_LINE = "Kafka Server started"
_READY_SECONDS = 90.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05
_START_ATTEMPTS = 3

Progress = Callable[[str], None]


class BrokerError(Exception):
    """The local broker cannot be had; the message is one line and names the remedy."""


def missing_tools(cache: Path) -> list[str]:
    """What is missing to run a local broker with this cache, each entry one line with its remedy."""
    missing = []
    if shutil.which("java") is None:
        missing.append("java is not on the PATH: install a Java 17 runtime (Debian: apt install default-jre-headless)")
    if shutil.which("mvn") is None and not _jars_complete(_jar_folder(cache)):
        missing.append("mvn is not on the PATH: install Maven (Debian: apt install maven); it is needed once")
    return missing


def fetch_jars(cache: Path, progress: Progress) -> Path:
    """Folder of the broker's jars, downloaded by Maven unless an earlier call completed.

    Safe to call from several processes at once: the download is made beside and renamed when whole.

    Raises:
        BrokerError: java or mvn is missing, or Maven failed.
    """
    problems = missing_tools(cache)
    if problems:
        raise BrokerError("; ".join(problems))
    folder = _jar_folder(cache)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _jars_complete(folder):
            progress(f"downloading Kafka {KAFKA_VERSION} with Maven (43 MB, once)")
            _run_maven(cache, folder)
    return folder


class LocalBroker:
    """One or more Kafka nodes (each broker and controller) on free loopback ports.

    A context manager: leaving it stops every process and removes the storage. `stop` is idempotent.
    Every wait has a deadline; `progress` is told before each.
    """

    def __init__(self, cache: Path, *, nodes: int = 1, progress: Progress = lambda _line: None) -> None:
        self._cache = cache
        self._count = nodes
        self._progress = progress
        self._home: Path | None = None
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * nodes
        self._ports: list[int] = []
        self._jars = Path()

    @property
    def bootstrap(self) -> str:
        """Comma-separated `host:port` of every node, for clients."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports[: self._count])

    @property
    def nodes(self) -> int:
        """How many nodes there are, running or not."""
        return self._count

    @property
    def storage(self) -> Path:
        """Folder of everything the nodes store.

        Raises:
            BrokerError: it is not started.
        """
        return self._node_home(0).parent

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Format fresh storage, start every node and wait until all are ready.

        Raises:
            BrokerError: a tool is missing, or a node did not become ready; with the last line it logged.
        """
        self._jars = fetch_jars(self._cache, self._progress)
        self._progress("starting Kafka")
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._home = Path(tempfile.mkdtemp(prefix="sluicegate-kafka-"))
            self._ports = _free_ports(2 * self._count)
            try:
                self._format()
                for node in range(self._count):
                    self.start_node(node, wait=False)
                for node in range(self._count):
                    self._wait_ready(node)
            except BrokerError as error:
                # Another process may take a port between our probe and the JVM's bind.
                taken = "Address already in use" in str(error)
                self.stop()
                if not taken or attempt == _START_ATTEMPTS:
                    raise
            else:
                self._progress(f"Kafka is ready on {self.bootstrap}")
                return

    def start_node(self, node: int, *, wait: bool = True) -> None:
        """Start one node (again) on the storage and ports it had.

        Raises:
            BrokerError: it did not become ready.
        """
        home = self._node_home(node)
        heap = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        command = [*death_signal(), "java", *heap, "-cp", f"{self._jars}/*"]
        command += ["kafka.Kafka", str(home / "server.properties")]
        with (home / "log").open("wb") as log:
            # A session of its own: Ctrl-C at the terminal must stop our clients first, then the broker.
            self._processes[node] = subprocess.Popen(  # noqa: S603 - fixed command, no shell
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )
        if wait:
            self._wait_ready(node)

    def kill_node(self, node: int) -> None:
        """SIGKILL one node and wait for its end; `start_node` brings it back."""
        process = self._processes[node]
        if process is not None:
            process.kill()
            process.wait(_STOP_SECONDS)
            self._processes[node] = None

    def stop_node(self, node: int) -> None:
        """SIGTERM one node and wait for its end, after a deadline SIGKILL; `start_node` brings it back."""
        process = self._processes[node]
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._processes[node] = None

    def pause_node(self, node: int) -> None:
        """SIGSTOP one node: its sockets stay open and answer nothing."""
        self._signal(node, signal.SIGSTOP)

    def resume_node(self, node: int) -> None:
        """SIGCONT a paused node."""
        self._signal(node, signal.SIGCONT)

    def stop(self) -> None:
        """Stop every node (SIGTERM, after a deadline SIGKILL) and remove the storage."""
        running = [process for process in self._processes if process is not None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = [None] * self._count
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def _signal(self, node: int, number: signal.Signals) -> None:
        process = self._processes[node]
        if process is not None:
            process.send_signal(number)

    def _node_home(self, node: int) -> Path:
        if self._home is None:
            message = "the local broker is not started"
            raise BrokerError(message)
        return self._home / str(node)

    def _format(self) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        for node in range(self._count):
            home = self._node_home(node)
            home.mkdir()
            config = home / "server.properties"
            config.write_text(_server_properties(node, self._ports, home / "data"))
            command = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*"]
            command += ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(config)]
            done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - fixed command
            if done.returncode:
                message = f"formatting Kafka's storage failed: {_cause_line(done.stderr or done.stdout)}"
                raise BrokerError(message)

    def _wait_ready(self, node: int) -> None:
        log = self._node_home(node) / "log"
        process = self._processes[node]
        deadline = time.monotonic() + _READY_SECONDS
        while process is not None:
            text = log.read_bytes()
            if _READY_LINE.encode() in text:
                return
            if process.poll() is not None or time.monotonic() > deadline:
                reason = _cause_line(text)
                state = "ended" if process.poll() is not None else f"was not ready after {_READY_SECONDS:.0f} s"
                message = f"Kafka node {node} {state}: {reason}"
                raise BrokerError(message)
            time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def local_broker(cache: Path, *, nodes: int = 1, progress: Progress = lambda _line: None) -> Iterator[LocalBroker]:
    """A started `LocalBroker` for the length of a `with` block.

    Raises:
        BrokerError: see `LocalBroker.start`.
    """
    with LocalBroker(cache, nodes=nodes, progress=progress) as broker:
        yield broker


def _jar_folder(cache: Path) -> Path:
    return cache / f"jars-{SCALA_VERSION}-{KAFKA_VERSION}-{SLF4J_VERSION}"


def _jars_complete(folder: Path) -> bool:
    # The folder is renamed into place only after Maven succeeded.
    return folder.is_dir()


def _run_maven(cache: Path, folder: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix="maven-", dir=cache))
    try:
        (work / "pom.xml").write_text(_POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
        done = subprocess.run(command, cwd=work, capture_output=True, check=False)  # noqa: S603 - fixed command
        if done.returncode:
            lines = done.stdout.decode("utf-8", "replace").splitlines()
            reason = next((line for line in lines if "[ERROR]" in line), "no reason given")
            message = f"Maven could not download Kafka (network, or its settings.xml): {reason[:300]}"
            raise BrokerError(message)
        (work / "lib").rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; held open together so that they differ."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def death_signal() -> list[str]:
    """Prefix of a command that ends it with its parent, even a killed one, where util-linux offers it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def _server_properties(node: int, ports: list[int], data: Path) -> str:
    nodes = len(ports) // 2
    client, controller = ports[node], ports[nodes + node]
    voters = ",".join(f"{other + 1}@127.0.0.1:{ports[nodes + other]}" for other in range(nodes))
    copies = min(3, nodes)
    lines = {
        "process.roles": "broker,controller",
        "node.id": node + 1,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": 1,
        "default.replication.factor": copies,
        # Of three copies two must have a record before it counts as written: one node may be lost at any moment.
        "min.insync.replicas": max(1, copies - 1),
        # What retention gives up leaves the disk within seconds, so that a long run needs little of it.
        "log.retention.check.interval.ms": 5000,
        "log.segment.delete.delay.ms": 1000,
        # A consumer group of one machine need not wait for members that will not come.
        "group.initial.rebalance.delay.ms": 0,
        # Topics are made explicitly, so that a misspelt name is an error and not a new topic.
        "auto.create.topics.enable": "false",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def _cause_line(log: bytes) -> str:
    """The line of a broker's log that says why it ended: the first error, else the last line."""
    for line in log.decode("utf-8", "replace").splitlines():
        if "Exception" in line or "ERROR" in line or "FATAL" in line:
            return line.strip()[:300]
    return _last_line(log)


_POM = f"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>io.sluicegate</groupId>
  <artifactId>local-broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_{SCALA_VERSION}</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>{SLF4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
