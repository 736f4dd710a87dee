#!/bin/sh
# Prints one CPython of each minor version from 3.11 on that this machine has, as "version path" lines, leaving out the
# version that is given as the first argument. It looks on PATH and among the versions of pyenv.
set -u
for candidate in python3.11 python3.12 python3.13 python3.13t python3.14 python3.14t \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    "$candidate" -c '
import ensurepip, os, platform, sys, sysconfig, venv
version = "%d.%d%s" % (*sys.version_info[:2], getattr(sys, "abiflags", ""))
header = os.path.join(sysconfig.get_path("include"), "Python.h")
if platform.python_implementation() == "CPython" and sys.version_info >= (3, 11) and os.path.exists(header):
    print(version, os.path.realpath(sys.executable))
' 2>/dev/null
done | sort -u -k1,1 | grep -v "^${1:-none} "
exit 0
