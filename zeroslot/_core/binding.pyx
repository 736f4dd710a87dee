"""The C core for Python: converts arguments, exports buffers, owns lifetimes and raises.

Why a Hold: views, arrays and memoryviews of a slot must keep it, and nothing else may. So all of them refer to one
small object a leased or loaned slot, the Hold; the slot is given back when the Hold goes. Handles (Slot, Loan, Lease)
refer to it as well, and drop only their own reference when they are released, committed or discarded.

Why most classes here take no part in garbage collection: a Hold refers to its Owner or Reader, and those to mappings.
Nothing in that line refers back to Python objects of the user's, so no cycle can pass through it. The one exception is
undone by hand: a loan's Hold lists the writable arrays that it handed out, until the loan ends.

Why it imports the errors, and nothing else of the package: what goes wrong here has the package's types, in a process
that has imported any one module of it. The errors stand above everything and import nothing themselves.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release, PyBUF_SIMPLE, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AsStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_Check, PyMemoryView_FromObject
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.errno cimport EACCES, EAGAIN, EFAULT, EINTR, EINVAL, errno
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

cimport numpy as cnp

import functools
import json
import os
import signal
import threading

from zeroslot import errors

include "core.pxi"

cnp.import_array()

if zs_fork_watch() != 0:
    raise ImportError("pthread_atfork has no memory left")

# Layers: a part uses what the parts before it define. tests/unit/test_architecture.py holds the order.
include "process.pxi"
include "records.pxi"
include "memory.pxi"
include "hold.pxi"
include "metadata.pxi"
include "owner.pxi"
include "ticket.pxi"
include "reader.pxi"
include "arrays.pxi"
include "fields.pxi"
include "extents.pxi"
include "view.pxi"
include "nested.pxi"
include "dtypes.pxi"
include "variable.pxi"
include "placement.pxi"
include "validators.pxi"
include "handles.pxi"
include "meeting.pxi"
include "wait.pxi"
include "endpoints.pxi"
include "sending.pxi"
include "subscriber.pxi"
include "several.pxi"
include "polling.pxi"
include "batches.pxi"
