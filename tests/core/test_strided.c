/* SPDX-License-Identifier: Apache-2.0
 *
 * Strided copies: each item arrives in its place, and no byte beside them changes, for random arrays and for images.
 */
#include "zs_strided.h"

#include "check.h"

enum { MARGIN = 64 };

static uint64_t state = 1;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (state >> 11) % below;
}

/* As obvious as possible: one item after the other. */
static void copy_items(uint8_t *to, const zs_strided *a)
{
    size_t count = zs_strided_size(a) / a->item;
    for (size_t n = 0; n < count; n++) {
        const uint8_t *from = a->from;
        size_t rest = n;
        for (int i = a->ndim - 1; i >= 0; i--) {
            from += (ptrdiff_t)(rest % (size_t)a->shape[i]) * a->strides[i];
            rest /= (size_t)a->shape[i];
        }
        memcpy(to + n * a->item, from, a->item);
    }
}

static void check_copy(const zs_strided *a)
{
    size_t size = zs_strided_size(a), shift = draw(9);
    uint8_t *expected = malloc(size + 1), *target = malloc(size + shift + MARGIN);
    CHECK(expected != NULL && target != NULL);
    memset(target, 0xa5, size + shift + MARGIN);
    copy_items(expected, a);
    zs_copy_strided(target + shift, a);
    CHECK(memcmp(target + shift, expected, size) == 0);
    for (size_t i = 0; i < shift; i++)
        CHECK_EQUAL(target[i], 0xa5);
    for (size_t i = 0; i < MARGIN; i++)
        CHECK_EQUAL(target[shift + size + i], 0xa5);
    free(expected);
    free(target);
}

static const size_t items[] = {1, 1, 1, 2, 3, 4, 5, 8, 12, 16, 24, 100};

/* An array of random dims, of an order of its own, with gaps, parts, steps and steps back, repeated rows, and no items. */
static void check_random(uint8_t *memory, size_t memory_size)
{
    zs_strided a = {.item = items[draw(sizeof items / sizeof *items)], .ndim = (int)draw(6)};
    int order[6];
    ptrdiff_t stride = (ptrdiff_t)a.item, first = 0;
    for (int i = 0; i < a.ndim; i++) {
        int at = (int)draw((uint64_t)i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    for (int i = 0; i < a.ndim; i++) {
        ptrdiff_t count = (ptrdiff_t)draw(draw(4) == 0 ? 150 : 6);
        int dim = order[i];
        if (draw(4) == 0)
            stride += (ptrdiff_t)draw(20); /* gaps, and items that are not aligned */
        a.shape[dim] = count;
        a.strides[dim] = draw(8) == 0 ? 0 : stride;
        if (stride * (count + 1) > (ptrdiff_t)memory_size / 2)
            a.shape[dim] = count = 1;
        stride *= count > 0 && a.strides[dim] != 0 ? count : 1;
        if (draw(4) == 0) {
            first += (count > 0 ? count - 1 : 0) * a.strides[dim];
            a.strides[dim] = -a.strides[dim];
        }
    }
    a.from = memory + first;
    check_copy(&a);
}

static void random_arrays_are_copied(void)
{
    size_t size = 1 << 20;
    uint8_t *memory = malloc(size);
    CHECK(memory != NULL);
    for (size_t i = 0; i < size; i++)
        memory[i] = (uint8_t)draw(256);
    for (int i = 0; i < 20000; i++)
        check_random(memory, size);
    free(memory);
}

/* Every size of a tile, and its edges. */
static void transposed_images_are_copied(void)
{
    uint8_t *memory = malloc(200 * 200 * 4 * 16);
    CHECK(memory != NULL);
    for (size_t i = 0; i < 200 * 200 * 4 * 16; i++)
        memory[i] = (uint8_t)draw(256);
    for (size_t which = 0; which < sizeof items / sizeof *items && items[which] <= 16; which++)
        for (ptrdiff_t height = 1; height < 140; height += 1 + height / 9)
            for (ptrdiff_t width = 1; width < 140; width += 1 + width / 7) {
                ptrdiff_t item = (ptrdiff_t)items[which];
                zs_strided transposed = {.from = memory, .item = items[which], .ndim = 2, .shape = {width, height}};
                zs_strided fortran = {.from = memory, .item = items[which], .ndim = 3, .shape = {height, width, 3}};
                zs_strided mirrored = {.from = memory + 2 * item, .item = items[which], .ndim = 3, .shape = {height, width, 3}};
                transposed.strides[0] = item, transposed.strides[1] = item * width;
                fortran.strides[0] = item, fortran.strides[1] = item * height, fortran.strides[2] = item * height * width;
                mirrored.strides[0] = 3 * item * width, mirrored.strides[1] = 3 * item, mirrored.strides[2] = -item;
                check_copy(&transposed);
                check_copy(&fortran);
                check_copy(&mirrored);
            }
    free(memory);
}

static void overlaps_are_told(void)
{
    uint8_t memory[100];
    zs_strided a = {.from = memory + 50, .item = 2, .ndim = 2, .shape = {3, 4}, .strides = {-8, 2}};
    /* It covers the bytes 34 to 57. */
    CHECK(!zs_strided_overlaps(&a, memory, 34));
    CHECK(zs_strided_overlaps(&a, memory, 35));
    CHECK(zs_strided_overlaps(&a, memory + 57, 1));
    CHECK(!zs_strided_overlaps(&a, memory + 58, 1));
    CHECK(!zs_strided_overlaps(&a, memory + 50, 0));
    a.shape[1] = 0;
    CHECK(!zs_strided_overlaps(&a, memory, 100));
}

int main(void)
{
    RUN(random_arrays_are_copied);
    RUN(transposed_images_are_copied);
    RUN(overlaps_are_told);
    return 0;
}
