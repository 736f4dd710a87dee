import numpy as np
from cloud import Cloud

import zeroslot as zs


def main() -> None:
    with zs.Subscriber("robot/points", Cloud) as subscriber:
        for lease in subscriber:
            cloud = lease.sample
            points = np.asarray(cloud.points)  # the publisher's memory, as a structured array
            nearest = points["x"].min() if len(points) else "none"
            intensity = f"{cloud.intensity.dtype} {cloud.intensity.shape}"
            print(f"{lease.sequence}: {cloud.frame}, {len(points)} points, nearest {nearest}, intensity {intensity}")
            print(f"   {lease.size} bytes")
            if lease.sequence == 5:
                break


if __name__ == "__main__":
    main()
