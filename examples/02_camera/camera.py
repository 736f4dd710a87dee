from frame import FRAME_COUNT, TOPIC, Frame

import zeroslot as zs

# Two subscribers hold two frames each, which makes four spare slots.
with zs.Publisher(TOPIC, Frame, depth=2, max_loans=1, spare_slots=4, on_full="block") as pub:
    pub.wait_for_subscribers(2)
    for number in range(1, FRAME_COUNT + 1):
        with pub.loan_uninit() as frame:  # every field is written here
            frame.number = number
            frame.image[:] = 0
            frame.image[:, 200 * number : 200 * number + 192] = 40 * number  # a bar that moves right and gets brighter
    print("all frames taken:", pub.flush())
