# Part of binding.pyx: batches, which are many samples in one call.
#
# Why a batch keeps the GIL: it is the mutex of a handle, and 64 samples take about two microseconds. To release it
# costs a tenth of that where no other thread waits, and much more where one does. Other threads run after each SHARE
# bytes, signal handlers after each part of a batch that is published; samples of LARGE_COPY bytes are copied without
# the GIL, as single ones are.
#
# Why no signal handler runs while a batch is taken: its samples are nowhere else. It ends with the samples that were
# there when it began, so it takes no longer than to copy the segment once.

cdef enum:
    # Bytes that are copied before other threads may run; small samples count as 64 bytes.
    SHARE = 262144
    SWITCH_NS = 5000000     # or the time after which they may: what the interpreter gives a thread

cdef extern from *:
    """
    #define ZS_NO_LIMIT PY_SSIZE_T_MAX
    """
    Py_ssize_t NO_LIMIT "ZS_NO_LIMIT"


# --- publishing ---


def publish_array(PublisherEnd end not None, cnp.ndarray items not None, timeout):
    """Publish a copy of each item of an array with the dtype of the plan. Returns the sequence of the last one.

    Waits up to `timeout` seconds in all. An exception gets the attribute `published`: how many samples were.
    """
    cdef Owner owner = end.owner
    cdef Plan plan = end.plan
    cdef Codec codec = plan.view_class.__zs_codec__
    cdef zs_samples samples
    cdef uint64_t newest = owner.c.published
    cdef uint64_t done = 0
    cdef uint64_t deadline = 0
    cdef uint64_t since = 0     # bytes since other threads could run
    cdef uint64_t count, wanted, got
    cdef uint64_t most = max(1, min(<uint64_t>ZS_BATCH, SHARE // max(plan.size, 1)))
    cdef const char *source = <const char *>cnp.PyArray_DATA(items)
    cdef Py_ssize_t stride
    cdef bytearray scratch = None
    cdef object refused = None
    try:
        if items.dtype is not plan.dtype and items.dtype != plan.dtype:
            raise TypeError(f"an array of dtype {items.dtype}, not {plan.dtype}")
        if cnp.PyArray_NDIM(items) != 1:
            raise ValueError(
                f"samples in {cnp.PyArray_NDIM(items)} dimensions have no order to publish them in. "
                "Use array.reshape(-1)"
            )
        owner.check()
        if plan.padding is None:
            plan.padding = padding_of(plan.dtype)
        if plan.padding:
            scratch = bytearray(most * plan.size)
        count, stride = cnp.PyArray_DIM(items, 0), cnp.PyArray_STRIDE(items, 0)
        samples.size, samples.capacity = plan.size, plan.size + owner.room
        samples.crc, samples.published_ns = owner.crc, sample_ns()
        while done < count:
            wanted, got = min(count - done, most), 0
            if codec.checked:
                wanted, refused = valid_items(codec, source, stride, wanted, done)
            if scratch is None:
                samples.data, samples.stride = <const uint8_t *>source, stride
            else:
                samples.data, samples.stride = <const uint8_t *><char *>scratch, plan.size
                copy_without_padding(<char *>scratch, source, stride, wanted, plan)
            if plan.size < LARGE_COPY and wanted > 0:
                got = owner.publish_copies(&samples, <uint32_t>wanted, &newest)
                done += got
                since += got * max(plan.size, 64)
            if got < wanted:    # there is no room for more, or the sample is large
                if deadline == 0:
                    deadline = deadline_of(end.default_timeout if timeout is ... else timeout)
                newest = publish_copy(end, <const char *>samples.data + <Py_ssize_t>got * samples.stride, deadline)
                samples.published_ns = sample_ns()
                done += 1
                got += 1
            elif refused is not None:
                raise refused
            source += <Py_ssize_t>got * stride
            look_up()
            if since >= SHARE:
                since = 0
                with nogil:
                    pass
    except BaseException as error:
        error.published = done
        raise
    return newest


def publish_each(PublisherEnd end not None, samples not None, timeout):
    """Publish each sample of an iterable, with `published` and `timeout` as in `publish_array`. Returns the sequence of
    the last one.

    Why compiled: in Python code a signal handler that raises does so at the end of a call, and a signal during
    `publish` would come after the sample was published and before it was counted.
    """
    cdef uint64_t done = 0
    cdef uint64_t began, now
    cdef uint64_t since = zs_now_ns()   # when other threads could run
    cdef bint limited = isinstance(timeout, (int, float)) and timeout > 0
    cdef object left = timeout
    cdef object newest = None
    try:
        end.owner.check_fork()
        newest = number_of(end.owner.c.published)
        for sample in samples:
            began = zs_now_ns()
            newest = end.publish(sample) if left is ... else end.publish(sample, left)
            done += 1
            now = zs_now_ns()
            if limited:
                left = max(left - <double>(now - began) * 1e-9, 0.0)
            look_up()
            if now - since > SWITCH_NS:
                since = now
                with nogil:
                    pass
    except BaseException as error:
        try:
            error.published = done
        except AttributeError:  # a frozen one
            pass
        raise
    return newest


cdef tuple valid_items(Codec codec, const char *data, Py_ssize_t stride, uint64_t count, uint64_t first):
    """How many of `count` items come before the first that is no sample, and the error for that one, or None."""
    cdef uint64_t i
    for i in range(count):
        try:
            codec.check(<char *>data + <Py_ssize_t>i * stride)
        except errors.CorruptSegmentError as error:
            return i, ValueError(f"samples[{first + i}]: {error}")
    return count, None


cdef int copy_without_padding(char *to, const char *data, Py_ssize_t stride, uint64_t count, Plan plan) except -1:
    """Copy items one behind the other, with zeros for padding: that of an array may be what was in memory before it."""
    cdef uint64_t i
    cdef size_t start, size
    for i in range(count):
        memcpy(to + i * plan.size, data + <Py_ssize_t>i * stride, plan.size)
    for part in plan.padding:
        start, size = part.start, part.stop - part.start
        for i in range(count):
            memset(to + i * plan.size + start, 0, size)
    return 0


cdef uint64_t publish_copy(PublisherEnd end, const char *data, uint64_t deadline_ns) except 0:
    """Publish a copy of one sample, where it may have to wait for a slot. Returns its sequence."""
    cdef Owner owner = end.owner
    cdef Hold hold = owner.reserve(end.plan.size)
    if hold is None:
        hold = reserve_slowly(owner, end.allocator, end.plan.size, deadline_ns)
    try:
        copy_bytes(hold, hold.data, data, end.plan.size)
        return owner.commit(hold, end.plan.size)
    except BaseException:
        owner.discard(hold)
        raise


# --- taking ---


@cython.final
cdef class Batch:
    """Copies of samples that `take_many` took, in their order.

    `samples` is a structured array with the dtype of the sample type. `sequences` and `published_ns` are those of each
    sample. `lost`: how many samples were overwritten before this batch could take them. Sample i came from the
    publisher `publisher_ids[publisher_index[i]]`.
    """

    cdef readonly object samples, sequences, published_ns
    cdef readonly tuple publisher_ids
    cdef readonly uint64_t lost
    cdef object index   # None: one publisher

    def __init__(self, *arguments, **named):
        raise TypeError("batches come from take_many()")

    @property
    def publisher_index(self):
        """Of each sample, which of `publisher_ids` sent it."""
        if self.index is None:
            self.index = new_array(cnp.dtype("u2"), len(self.samples))
            self.index.fill(0)
        return self.index

    def __len__(self):
        return len(self.samples)

    def __repr__(self):
        return f"<Batch of {len(self.samples)} samples, {self.lost} lost>"


cdef cnp.dtype U64 = cnp.dtype("u8")
cdef cnp.dtype U16 = cnp.dtype("u2")


cdef object new_array(cnp.dtype dtype, Py_ssize_t count):
    """A new array of one dimension, with any contents."""
    cdef cnp.npy_intp dims[1]
    dims[0] = count
    Py_INCREF(dtype)
    return PyArray_NewFromDescr(<PyTypeObject *>cnp.ndarray, <void *>dtype, 1, dims, NULL, NULL, 0, NULL)


cdef Batch empty_batch(SubscriberEnd end, object out, uint64_t lost):
    cdef Batch batch = Batch.__new__(Batch)
    batch.samples = new_array(end._dtype(), 0) if out is None else out[:0]
    batch.sequences = new_array(U64, 0)
    batch.published_ns = new_array(U64, 0)
    batch.publisher_ids = ()
    batch.lost = lost
    return batch


def take_batch(SubscriberEnd end not None, most, out, timeout):
    """What Subscriber.take_many returns."""
    cdef Py_ssize_t limit = NO_LIMIT
    cdef Batch batch
    cdef uint64_t lost, deadline
    cdef SampleWait what
    if most is not None:
        limit = whole_size(most)
    if out is not None:
        limit = min(limit, room_in(out))
    if limit < 1:
        raise ValueError("a batch has room for at least one sample")
    batch = copy_batch(end, limit, out)
    if len(batch.samples) > 0 or not is_wait(timeout):
        return batch
    lost = batch.lost
    deadline = deadline_of(timeout)
    what = end.sample_wait()
    while wait_for(what, deadline):
        batch = copy_batch(end, limit, out)
        lost += batch.lost
        if len(batch.samples) > 0 or zs_now_ns() >= deadline:
            break
    batch.lost = lost
    return batch


cdef Py_ssize_t room_in(object out) except -1:
    """How many samples `out` takes now. TypeError and ValueError where it takes none."""
    if not isinstance(out, cnp.ndarray) or cnp.PyArray_NDIM(<cnp.ndarray>out) != 1:
        raise TypeError("out is an array of one dimension")
    if not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out):
        raise ValueError("out is read-only")
    return cnp.PyArray_DIM(<cnp.ndarray>out, 0)


cdef Batch copy_batch(SubscriberEnd end, Py_ssize_t limit, object out):
    """Copy what is there, up to `limit` samples."""
    cdef list sources = end.current()
    cdef Source source
    cdef Copying copying = Copying.__new__(Copying)
    cdef Lease lease
    cdef uint64_t lost = 0
    cdef bint ready = False
    error, end.deferred = end.deferred, None
    if error is not None:
        raise error
    for source in sources:
        ready = ready or zs_reader_ready(&source.reader.c)
        lost -= source.reader.c.lost
    copying.sources = sources
    if ready:
        copying.copy(end, limit, out)
    if copying.count == 0:
        # Nothing, or what a single take deals with: it follows the topic, maps pools, and raises.
        lease = end.next()
        if lease is not None:
            copying.sources = [lease.source]
            copying.make_room(1, out)
            copying.add_leased(lease, 0)
    for source in sources:
        lost += source.reader.c.lost
    return copying.batch(lost) if copying.count > 0 else empty_batch(end, out, lost)


@cython.final
cdef class Copying:
    """A batch while it is taken."""

    cdef list sources
    cdef zs_copier *copiers     # one for each source; without a reader once the source has no more
    cdef Py_ssize_t count       # samples so far
    cdef Py_ssize_t room
    cdef uint64_t size          # of each
    cdef object samples, sequences, published_ns, index
    cdef uint8_t *to
    cdef Py_ssize_t stride
    cdef uint64_t *numbers
    cdef uint64_t *times
    cdef uint16_t *from_source  # NULL: there is one source

    def __dealloc__(self):
        PyMem_RawFree(self.copiers)

    cdef int copy(self, SubscriberEnd end, Py_ssize_t limit, object out) except -1:
        """Copy what is there, up to `limit` samples. Publishers take turns, sample by sample."""
        cdef Py_ssize_t source_count = len(self.sources)
        cdef Py_ssize_t left = self.begin(end.verify)
        cdef Py_ssize_t at = end.turn % source_count
        cdef Py_ssize_t most, done
        cdef uint64_t since = 0     # bytes since other threads could run
        if left == 0:
            return 0
        self.make_room(min(left, limit), out)
        left = source_count
        while self.count < self.room and left > 0:
            if self.copiers[at].reader != NULL:
                if self.size >= LARGE_COPY or (<Source>self.sources[at]).plan.exact is not None:
                    most, done = 1, self.copy_leased(end, at)
                else:
                    most = min(self.room - self.count, 1 if source_count > 1 else <Py_ssize_t>ZS_BATCH)
                    done = self.copy_some(at, most)
                if done > 0:
                    end.turn = at + 1
                if done < most:
                    self.copiers[at].reader = NULL
                    left -= 1
                since += done * max(self.size, 64)
                if since >= SHARE:
                    since = 0
                    with nogil:
                        pass
            at = (at + 1) % source_count
        return 0

    cdef Py_ssize_t begin(self, bint verify) except -1:
        """How many samples there are, at most."""
        cdef Source source
        cdef Reader reader
        cdef zs_copier *copier
        cdef zs_payloads payloads
        cdef Py_ssize_t left = 0
        self.copiers = <zs_copier *>PyMem_RawCalloc(len(self.sources), sizeof(zs_copier))
        if self.copiers == NULL:
            raise MemoryError
        copier = self.copiers
        for source in self.sources:
            reader = source.reader
            zs_lock(&reader.mutex)
            if not reader.closed and not reader.broken:
                payloads = reader.segment.payloads()
                zs_copier_begin(copier, &reader.c, &payloads, source.plan.size, verify)
                left += min(zs_copier_left(copier), reader.segment.c.depth)
            zs_unlock(&reader.mutex)
            copier += 1
        return left

    cdef int make_room(self, Py_ssize_t room, object out) except -1:
        """Samples of all sources become those of the subscriber's own layout, also those that are read by name.

        `out` is checked again: a wait runs other threads and signal handlers, which may commit the loan that it lies
        in, or give it another shape.
        """
        cdef Source source
        cdef Plan plan = None
        cdef Plan each
        for source in self.sources:
            each = source.plan if source.plan.exact is None else source.plan.exact
            if each.dtype is None or (plan is not None and each.dtype != plan.dtype):
                raise TypeError(
                    f"samples of {each.view_class.__name__} cannot be copied into an array: take them one by one"
                )
            plan = each
        if out is None:
            self.samples = new_array(plan.dtype, room)
        elif room_in(out) < room:
            raise ValueError("out was made shorter during the wait")
        elif out.dtype is plan.dtype or out.dtype == plan.dtype:
            self.samples = out
        else:
            raise TypeError(f"out has the dtype {out.dtype}, and the samples have {plan.dtype}")
        self.room, self.size = room, plan.size
        self.sequences, self.published_ns = new_array(U64, room), new_array(U64, room)
        self.to = <uint8_t *>cnp.PyArray_DATA(self.samples)
        self.stride = cnp.PyArray_STRIDE(self.samples, 0)
        self.numbers = <uint64_t *>cnp.PyArray_DATA(self.sequences)
        self.times = <uint64_t *>cnp.PyArray_DATA(self.published_ns)
        if len(self.sources) > 1:
            self.index = new_array(U16, room)
            self.from_source = <uint16_t *>cnp.PyArray_DATA(self.index)
        return 0

    cdef Py_ssize_t copy_some(self, Py_ssize_t at, Py_ssize_t most) noexcept:
        """Copy up to `most` samples of source `at`, at most ZS_BATCH: how many."""
        cdef Reader reader = (<Source>self.sources[at]).reader
        cdef zs_copier *copier = &self.copiers[at]
        cdef Py_ssize_t before = self.count
        zs_lock(&reader.mutex)
        if not reader.closed:   # or its index may be another's already
            while self.count < before + most:
                if zs_copier_next(copier, self.to, self.times + self.count) != ZS_TAKE_COPIED:
                    break
                self.add(reader.c.cursor, at)
            zs_copier_settle(copier)
            if copier.sampled_ns != 0:
                reader.count_latency(copier.sampled_ns)
                copier.sampled_ns = 0
        zs_unlock(&reader.mutex)
        return self.count - before

    cdef Py_ssize_t copy_leased(self, SubscriberEnd end, Py_ssize_t at) except -1:
        """Copy a sample of source `at`, a large one while other threads run, or one that is read by name: 1, or 0."""
        cdef Source source = <Source>self.sources[at]
        cdef Hold hold
        try:
            hold = source.reader.take(False)
            if hold is None:
                return 0
            self.add_leased(end.leased(source, hold), at)
        except (errors.ZeroslotError, OSError) as error:
            if self.count == 0:
                raise
            end.deferred = error    # after the samples before it
            return 0
        return 1

    cdef int add_leased(self, Lease lease, Py_ssize_t at) except -1:
        cdef Hold hold = lease.hold
        cdef Plan exact = lease.source.plan.exact
        cdef bytes image
        if exact is not None:
            image = sample_image(exact.view_class, exact.size, lease.viewed().__zs_values__())
            memcpy(self.to, <const char *>image, self.size)
        elif self.size < LARGE_COPY:
            memcpy(self.to, hold.data, self.size)
        else:
            with nogil:
                memcpy(self.to, hold.data, self.size)
        self.times[self.count] = hold.published_ns
        self.add(hold.sequence, at)
        return 0

    cdef inline void add(self, uint64_t sequence, Py_ssize_t at) noexcept:
        """The sample at `to` is complete."""
        self.numbers[self.count] = sequence
        if self.from_source != NULL:
            self.from_source[self.count] = <uint16_t>at
        self.to += self.stride
        self.count += 1

    cdef Batch batch(self, uint64_t lost):
        cdef Batch batch = Batch.__new__(Batch)
        cdef Source source
        batch.samples, batch.sequences, batch.published_ns = self.samples, self.sequences, self.published_ns
        batch.index, batch.lost = self.index, lost
        if self.count < self.room:
            batch.sequences, batch.published_ns = batch.sequences[:self.count], batch.published_ns[:self.count]
            if batch.index is not None:
                batch.index = batch.index[:self.count]
        if self.count < len(batch.samples):
            batch.samples = batch.samples[:self.count]
        batch.publisher_ids = tuple([source.publisher_id for source in self.sources])
        return batch
