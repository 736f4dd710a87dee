"""All comparisons as one markdown table: the bar, the figure found, and its medians."""

from __future__ import annotations

import against_core
import against_iceoryx2
import batches
import calls
import copies
import fanout
import inplace
import memcpy
from common import main

if __name__ == "__main__":
    modules = (against_iceoryx2, against_core, calls, batches, inplace, memcpy, copies, fanout)
    main(*(module.measure for module in modules))
