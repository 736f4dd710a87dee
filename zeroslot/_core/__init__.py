"""The native core: C11 headers and the binding over them. It imports nothing of the package.

Importing it is an ImportError where the binding was not compiled for this Python, as in a checkout that was installed
elsewhere: a program that starts in the checkout finds the sources first.
"""

import os
import sys
from importlib.util import find_spec

if find_spec("zeroslot._core.binding") is None:
    _tree = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    raise ImportError(
        f"zeroslot in {_tree} is a source tree without the compiled binding for Python "
        f"{sys.version_info.major}.{sys.version_info.minor}: start Python in another directory to use the zeroslot "
        "that pip installed, or compile the binding here with `pip install -e .` (or `make build`)",
        name="zeroslot._core.binding",
        path=_tree,
    )
