"""`zeroslot metrics`: the metrics of a domain, served to Prometheus or printed once."""

from __future__ import annotations

import sys
import threading

import zeroslot as zs
from zeroslot.cli import CommandError
from zeroslot.cli.figures import as_json
from zeroslot.cli.table import printable


def _collector(domain: str | None, *, with_pid: bool) -> zs.MetricsCollector | None:
    """None: prometheus_client is not installed, which is printed."""
    try:
        return zs.MetricsCollector(domain=domain, with_pid=with_pid)
    except ModuleNotFoundError as error:
        print(f"zeroslot: {error}", file=sys.stderr)
        return None


def print_metrics(domain: str | None, *, with_pid: bool, json_output: bool) -> int:
    """Print the metrics once, in the text format of Prometheus or as JSON."""
    collector = _collector(domain, with_pid=with_pid)
    if collector is None:
        return 1
    from prometheus_client import CollectorRegistry, generate_latest

    with collector:
        if json_output:
            samples = [sample for metric in collector.collect() for sample in metric.samples]
            print(as_json([{"name": each.name, "labels": each.labels, "value": each.value} for each in samples]))
            return 0
        registry = CollectorRegistry()
        registry.register(collector)
        text = generate_latest(registry).decode()
        print("\n".join(map(printable, text.split("\n"))) if sys.stdout.isatty() else text, end="")
    return 0


def serve_metrics(domain: str | None, port: int, address: str, *, with_pid: bool) -> int:
    """Serve the metrics until Ctrl-C, and print where. Raises CommandError where the port is taken."""
    collector = _collector(domain, with_pid=with_pid)
    if collector is None:
        return 1
    from prometheus_client import CollectorRegistry, start_http_server

    with collector:
        registry = CollectorRegistry()
        registry.register(collector)
        host = f"[{address}]" if ":" in address else address
        try:
            server, thread = start_http_server(port, address, registry)
        except OSError as error:
            raise CommandError(
                f"cannot listen at {host}:{port}: {error.strerror}. --port chooses another one, 0 any that is free"
            ) from None
        try:
            print(f"http://{host}:{server.server_port}/metrics", flush=True)
            threading.Event().wait()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
    return 0
