"""The commands that hand what is known to other programs: metrics to Prometheus, the graph to a renderer."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from zeroslot.cli.options import Domain, Json, exit_with


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(graph)
    app.command()(metrics)


def graph(
    domain: Domain = None,
    text: Annotated[bool, typer.Option("--text", help="As lines of text, which is the default in a terminal.")] = False,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="As a Mermaid flowchart, which is the default elsewhere.")
    ] = False,
    dot: Annotated[bool, typer.Option("--dot", help="As a Graphviz digraph.")] = False,
    json: Json = False,
) -> None:
    """Draw which processes publish and read which topics, with the rate of each publisher.

    A Mermaid flowchart can be pasted into Markdown, and Graphviz makes a picture:

        zeroslot graph --mermaid > graph.mmd

        zeroslot graph --dot | dot -Tsvg > graph.svg

    With --json an object with "processes", "topics" and "edges"; the role of an edge is "publisher", "subscriber" or
    "waiting" (a subscriber that has no publisher). A rate is that of the newest samples that can still be taken, in
    samples a second; null where a publisher keeps fewer than two.
    """
    from zeroslot.cli.graph import print_graph

    forms = [name for name, given in (("text", text), ("mermaid", mermaid), ("dot", dot), ("json", json)) if given]
    if len(forms) > 1:
        raise typer.BadParameter("give one of --text, --mermaid, --dot and --json", param_hint=f"--{forms[0]}")
    exit_with(print_graph(domain, form=forms[0] if forms else "text" if sys.stdout.isatty() else "mermaid"))


def metrics(
    domain: Domain = None,
    port: Annotated[int, typer.Option(help="The TCP port; 0: any free one.", min=0, max=65535)] = 9464,
    address: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 lets other machines read.")
    ] = "127.0.0.1",
    with_pid: Annotated[
        bool, typer.Option("--with-pid", help="Labels with process ids: new time series with each restart.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end, without a server.")] = False,
    json: Json = False,
) -> None:
    """Serve all counters and latency histograms to Prometheus, until Ctrl-C.

    Only this machine can read them, unless --address says otherwise. Counters of processes of one name are summed, so
    that a restart makes no new time series. With --json they are printed once, as a list of objects: "name", "labels"
    and "value". For a registry of your own there is zeroslot.MetricsCollector.

        zeroslot metrics --port 9464

        zeroslot metrics --once | grep lost
    """
    from zeroslot.cli.metrics import print_metrics, serve_metrics

    if once or json:
        exit_with(print_metrics(domain, with_pid=with_pid, json_output=json))
    else:
        exit_with(serve_metrics(domain, port, address, with_pid=with_pid))
