import numpy as np
from cloud import Cloud, Point

import zeroslot as zs

LARGEST = zs.layout_of(Cloud).size + 50_000 * (zs.layout_of(Point).size + 4) + 1024


def main() -> None:
    with zs.Publisher("robot/points", Cloud, max_bytes=LARGEST) as publisher:
        publisher.wait_for_subscribers()
        for count in (3, 50_000, 0):
            # The sizes of this sample; then it is filled in place.
            with publisher.loan(frame=16, points=count, intensity=(count, np.float32)) as cloud:
                cloud.frame = "lidar"  # shorter than its room
                points = np.asarray(cloud.points)
                points["x"] = np.linspace(0, 1, count)
                points["z"] = 2
                cloud.intensity[:] = 0.5
        with publisher.loan(points=1000) as cloud:
            hits = 4  # of the 1000 there was room for
            np.asarray(cloud.points)["x"][:hits] = 9
            zs.resize(cloud, points=hits)
        publisher.publish({"stamp_ns": 1, "points": [Point(x=1, y=2, z=3)], "intensity": np.eye(2, dtype="u1")})


if __name__ == "__main__":
    main()
