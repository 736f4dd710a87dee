"""The commands that draw what is published: curves and images."""

from __future__ import annotations

from typing import Annotated

import typer

from zeroslot.cli.options import Domain, Json, Topic, as_expression, exit_with


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(plot)
    app.command()(view)


def plot(
    topic: Topic,
    fields: Annotated[list[str], typer.Argument(metavar="FIELD…", help="Fields, or expressions of them as for echo.")],
    domain: Domain = None,
    window: Annotated[float, typer.Option(help="How many seconds are shown.", min=0.1)] = 10.0,
    fps: Annotated[float, typer.Option(help="Pictures a second.", min=0.1, max=60)] = 5.0,
    lower: Annotated[float | None, typer.Option("--min", help="The least y.", show_default="as needed")] = None,
    upper: Annotated[float | None, typer.Option("--max", help="The greatest y.", show_default="as needed")] = None,
    history: Annotated[
        int, typer.Option(help="How many older samples to begin with, as far as they are kept.", min=0)
    ] = 0,
    once: Annotated[bool, typer.Option("--once", help="Draw once, after --window seconds, and end.")] = False,
    json: Json = False,
) -> None:
    """Draw fields of a topic over time, live in the terminal, until q or Ctrl-C.

    Each number is a curve, and so is each element of an array of up to 8. A longer array is a curve by itself: its
    newest values over their index.

        zeroslot plot robot/imu accel

        zeroslot plot robot/imu "norm(accel)" "accel[2]" --window 30

        zeroslot plot robot/imu accel --once --window 0.5 > plot.txt

    It needs the extra `plot`, and reads as a best-effort subscriber. With --json an object on a line for each sample,
    as of echo, and no picture.
    """
    from zeroslot.cli.plot import View, plot_fields
    from zeroslot.cli.reading import Source

    expressions = [as_expression(field, "FIELD") for field in fields]
    if json:
        from zeroslot.cli.echo import print_samples

        source = Source(topic, domain, history, times=1 if once else None, timeout=window if once else None)
        exit_with(print_samples(source, expressions, None, output="json", arrays=True, limit=None))
    else:
        exit_with(plot_fields(Source(topic, domain, history), expressions, View(window, fps, lower, upper), once=once))


def view(
    topic: Topic,
    domain: Domain = None,
    field: Annotated[
        str | None, typer.Option("--field", help="The field that is the image.", show_default="the first that is one")
    ] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="Colours are in the order of OpenCV.")] = False,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FILE", help="Write a .png or .jpg. With {sequence} in its name: one a sample."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show one image, and end.")] = False,
    fps: Annotated[float, typer.Option(help="The most pictures a second.", min=0.1, max=60)] = 10.0,
    timeout: Annotated[
        float | None, typer.Option(help="End after so many seconds without a sample.", min=0, show_default="never")
    ] = None,
    json: Json = False,
) -> None:
    """Show the images of a topic in the terminal, until q or Ctrl-C, or save them.

    An image is an array of uint8 with the shape (height, width), (height, width, 3) or (height, width, 4), or bytes of
    a JPEG or PNG file. Of an array of depths (height, width) the least is black and the greatest white. It begins with
    the newest image that is there, and skips those that come faster than --fps.

        zeroslot view camera/front

        zeroslot view camera/front --save front.png

        zeroslot view camera/front --save "front-{sequence}.png" --json

    Saving, and images as JPEG or PNG, need the extra `view`. With --json an object on a line for each image: "topic",
    "publisher_id", "sequence", "published_ns", "lost", "field", "width", "height", "form" and "saved". Ends with status
    1 when there is no image in the samples, or none came in time.
    """
    from zeroslot.cli.reading import Source
    from zeroslot.cli.view import Request, view_images

    every = save is not None and "{sequence}" in save
    source = Source(topic, domain, 1, latest=not every and not json, timeout=timeout)
    expression = as_expression(field, "--field") if field is not None else None
    exit_with(view_images(source, Request(expression, bgr, save, once, fps), json_output=json))
