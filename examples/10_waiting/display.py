from samples import FRAMES, Frame, Spot

import zeroslot as zs

with (
    zs.Subscriber("camera", Frame, reliable=True) as frames,
    zs.Subscriber("spots", Spot, reliable=True) as spots,
    zs.WaitSet(frames, spots) as waiting,
):
    silent = waiting.deadline(frames, 60.0)
    images: dict[int, zs.Lease[Frame]] = {}  # frames whose spot has not come yet, in place
    shown = 0
    while shown < FRAMES:
        for ready in waiting.wait():
            if ready is frames and len(images) < 4 and (frame := frames.take()):
                images[frame.sample.number] = frame
            elif ready is spots and (spot := spots.take()):
                where = spot.sample.row, spot.sample.column
                brightness = images.pop(spot.sample.number).sample.gray[where]
                print(f"frame {spot.sample.number}: {brightness} at {where}")
                shown += 1
            elif ready is silent:
                raise SystemExit("no frame for a minute")
