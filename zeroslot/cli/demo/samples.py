"""The two sample types of the demo, how they are filled, and how a reader checks that one is complete.

Why the camera's pixels all have one value: a reader proves the whole frame with two passes at memory speed, and any
mixture of two frames shows.
"""

from __future__ import annotations

import math
import zlib
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs

IMU_HZ = 1000.0
CAMERA_HZ = 60.0


class Imu(zs.Sample):
    """What an inertial sensor measures, as a robot's driver would publish it."""

    number: zs.U64
    acceleration: Annotated[NDArray[np.float64], zs.Shape(3)]  # m/s^2
    angular_velocity: Annotated[NDArray[np.float64], zs.Shape(3)]  # rad/s
    orientation: Annotated[NDArray[np.float64], zs.Shape(4)]  # x, y, z, w
    checksum: zs.U32


class Frame(zs.Sample):
    """A 1080p picture."""

    number: zs.U64
    pixels: Annotated[NDArray[np.uint8], zs.Shape(1080, 1920, 3)]


def fill_imu(imu: Imu, number: int) -> None:
    """Write sample `number`: a slow turn about the vertical axis."""
    angle = number / IMU_HZ
    imu.number = number
    imu.acceleration[:] = (0.1 * math.cos(angle), 0.1 * math.sin(angle), 9.81)
    imu.angular_velocity[:] = (0.0, 0.0, 1.0)
    imu.orientation[:] = (0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2))
    imu.checksum = checksum_of(imu)


def checksum_of(imu: Imu) -> int:
    """CRC-32 of all that is measured, the number first."""
    found = zlib.crc32(imu.number.to_bytes(8, "little"))
    for part in (imu.acceleration, imu.angular_velocity, imu.orientation):
        found = zlib.crc32(part.data, found)
    return found


def imu_is_whole(imu: Imu, sequence: int) -> bool:
    """Whether it is the sample that was published under this sequence, all of it."""
    return imu.number == sequence and imu.checksum == checksum_of(imu)


def fill_frame(frame: Frame, number: int) -> None:
    """Write frame `number`, in place."""
    frame.number = number
    frame.pixels.fill(shade_of(number))


def shade_of(number: int) -> int:
    """The value of every pixel of a frame; that of the next one is another."""
    return number * 37 % 251


def frame_is_whole(frame: Frame, sequence: int) -> bool:
    """Whether it is the frame that was published under this sequence, every pixel of it."""
    pixels, shade = frame.pixels, shade_of(sequence)
    ends = (int(pixels[0, 0, 0]), int(pixels[-1, -1, -1]))
    return frame.number == sequence and ends == (shade, shade) and pixels.min() == pixels.max()
