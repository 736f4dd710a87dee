import asyncio

from samples import FRAMES, Frame, Spot

import zeroslot as zs


async def count_frames(frames: zs.Subscriber[Frame]) -> int:
    seen = 0
    async for lease in frames:
        seen += 1
        if lease.sample.number == FRAMES:
            break
    return seen


async def mean_column(spots: zs.Subscriber[Spot]) -> float:
    columns: list[float] = []
    while len(columns) < FRAMES:
        lease = await spots.take_async(timeout=60.0)
        if lease is None:
            raise SystemExit("no spot for a minute")
        columns.append(lease.sample.column)
    return sum(columns) / len(columns)


async def main() -> None:
    with (
        zs.Subscriber("camera", Frame, reliable=True) as frames,
        zs.Subscriber("spots", Spot, reliable=True) as spots,
    ):
        seen, mean = await asyncio.gather(count_frames(frames), mean_column(spots))
    print(f"{seen} frames, spots at column {mean} on average")


asyncio.run(main())
