#!/bin/sh
# Break the rules of the protocol, one at a time, in a copy of the headers, and see a program of this folder fail.
#
#   mutants.sh [name]...
#
# A line of the table: name | header | sed script, or -D… for a memory order | who has to notice: layout slots ring peers steps tsan.
# A sed script that changes nothing is an error: the header has moved on and the table has to follow.
set -u
cd "$(dirname "$0")" || exit 1
CC=${CC:-cc}
work=build/mutants
survived=0
total=0

try() { # name header change noticers
    name=$1 header=$2 change=$3 noticers=$4 flags=
    total=$((total + 1))
    rm -rf "$work" && mkdir -p "$work" && cp ../../zeroslot/_core/include/zeroslot/*.h "$work" || exit 1
    case $change in
        -D*) flags=$change ;;
        *) sed -i -E "$change" "$work/$header" || exit 1
           if cmp -s "$work/$header" "../../zeroslot/_core/include/zeroslot/$header"; then echo "mutants: $name no longer matches $header" >&2; exit 1; fi ;;
    esac
    for noticer in $noticers; do
        case $noticer in
            tsan) sources=stress.c options="-O1 -fsanitize=thread" ;;
            *) sources=test_$noticer.c options=-O1 ;;
        esac
        # shellcheck disable=SC2086
        if ! $CC -std=c11 -D_GNU_SOURCE -w -g $options $flags -I"$work" -pthread $sources -o "$work/program" 2>"$work/says"; then
            echo "caught    $name (does not compile)"; return
        fi
        case $noticer in
            tsan) timeout 40 "$work/program" --threads --samples 20000 >/dev/null 2>"$work/says" ;;
            *) timeout 40 "$work/program" >/dev/null 2>"$work/says" ;;
        esac || { [ "$name" != nothing ] || { echo "mutants: $noticer fails without any change" >&2; exit 1; }; echo "caught    $name: $noticer: $(echo 'ended by a signal or a time limit' >>"$work/says"; grep -m1 -E 'not so|sleeps for ever| is |data race|^ended' "$work/says" | cut -c1-110)"; return; }
    done
    if [ "$name" = nothing ]; then echo "unbroken, all pass"; total=$((total - 1)); return; fi
    echo "SURVIVED  $name"
    survived=$((survived + 1))
}

wanted=" $* "
while IFS='@' read -r name header change noticers; do
    case $name in '' | '#'*) continue ;; esac
    if [ "$wanted" != "  " ]; then case $wanted in *" $name "*) ;; *) continue ;; esac; fi
    try "$name" "$header" "$change" "$noticers"
done <<'TABLE'
nothing@-@-DNOTHING@layout slots ring peers steps tsan
# --- † capacity, creation
ring-holds-the-depth-once@zs_layout.h@s/capacity < 2 \* depth/capacity < depth/; s/h->ring_capacity >= 2 \* h->depth/h->ring_capacity >= h->depth/@steps layout
ring-filled-with-zero@zeroslot.h@s/zs_tag\(h->first_sequence - 1, 0\)/0/@ring
# --- † retire and lease
nothing-is-retired@zs_ring.h@/zs_slot_retire\(s, oldest\);/d@steps
retired-one-too-early@zs_ring.h@s/first_sequence >= s->depth\)/first_sequence + 1 >= s->depth)/; s/ring_slots\[\(n - s->depth\)/ring_slots[(n + 1 - s->depth)/@slots
lease-does-not-look-again@zs_slots.h@s/if \(zs_load\(&entry->sequence, ZS_LEASE_LOAD\) == n\)/if (n != 0)/@steps
lease-looks-before-its-bit@zs_slots.h@s/zs_fetch_or\(word, bit, ZS_LEASE_RMW\);/uint64_t early = zs_load(\&entry->sequence, ZS_LEASE_LOAD); &/; s/if \(zs_load\(&entry->sequence, ZS_LEASE_LOAD\) == n\)/if (early == n)/@steps
reserve-ignores-readers@zs_slots.h@s/!zs_slot_is_read\(o->segment, candidate\)/1/@steps
reserve-looks-at-one-word@zs_slots.h@s/w < s->reader_words; w\+\+\)/w < 1; w++)/@slots
reserve-heeds-nobodys-bits@zs_slots.h@s/left >= 64 \?/1 ?/@slots
reserve-gives-out-the-withheld@zs_slots.h@s/free_count > o->withheld/free_count > 0/@slots
withhold-takes-what-is-read@zs_slots.h@s/uint32_t slot = zs_owner_unretire\(o\);/uint32_t slot = o->retired_count ? o->retired[--o->retired_count] : ZS_NO_SLOT;/@slots
reserve-ignores-own-views@zs_slots.h@s/zs_load\(&o->held\[candidate\], ZS_HELD_LOAD\) == 0/1/@slots
failed-lease-leaves-its-bit@zs_slots.h@/zs_fetch_and\(word, ~bit, ZS_RELEASE_RMW\);/d@slots
commit-names-the-slot-first@zs_ring.h@s/(zs_store\(&entry->sequence, n, ZS_SEQUENCE_STORE\);)/zs_store(\&s->ring[n \& mask], zs_tag(n, slot), ZS_RING_STORE); \1/@steps
# --- † one hold, one bit
held-slot-is-leased-again@zs_ring.h@s/ \|\| zs_load\(&r->held\[named\], ZS_HELD_LOAD\) != 0\)/)/@ring
held-falls-after-the-bit@zs_ring.h@/^    zs_store\(&r->held\[slot\], 0, ZS_HELD_STORE\);/d; s/^    zs_slot_release\(s, slot, r->index\);/&zs_store(\&r->held[slot], 0, ZS_HELD_STORE);/@steps
lease-count-falls-before-the-bit@zs_ring.h@/^    zs_slot_release\(s, slot, r->index\);/d; s/^    zs_fetch_add\(&r->released, 1, ZS_RELEASED_RMW\);.*/&\n    zs_slot_release(s, slot, r->index);/@steps
# --- laps
no-64-lap-rule@zs_ring.h@s/laps >= ZS_MAX_LAPS/0/@ring
lap-without-progress@zs_ring.h@s/published < c \|\| oldest <= c/0/@ring
unmapped-slot-is-leased@zs_ring.h@/named >= r->slot_count/,+1d@ring
unmapped-moves-the-cursor@zs_ring.h@s/return ZS_TAKE_UNMAPPED;/{ zs_reader_move(r, c); return ZS_TAKE_UNMAPPED; }/@ring
gone-pool-loses-nothing@zs_ring.h@s/^    r->lost\+\+;//@ring
latency-buckets-are-octaves@zs_layout.h@s/ \+ \(uint32_t\)\(ns >> \(octave - 2\) & 3\)//@layout
unknown-incompatible-bit@zs_layout.h@/h->incompat & ~ZS_INCOMPAT_KNOWN/,+1d@layout
readers-leave-the-slot@zs_layout.h@s/\(uint64_t\)h->readers_at \+ 8 \* \(uint64_t\)h->reader_words <= h->slot_size/1/@layout
entries-have-this-versions-size@zs_layout.h@s/h->peer_size >= ZS_PEER_SIZE/h->peer_size == ZS_PEER_SIZE/@layout
readers-have-this-versions-place@zs_layout.h@s/slot \* s->slot_size \+ s->readers_at/slot * s->slot_size + ZS_READERS_AT/@ring
slot-beyond-the-table@zs_ring.h@s/named >= s->slot_limit \|\| //@ring
loss-is-off-by-one@zs_ring.h@s/r->lost \+= oldest - c;/r->lost += oldest - c - 1;/@ring
latest-bears-no-trailing-published@zs_ring.h@s/ \|\| published \+ 1 == start//@ring
# --- † park and wake
waker-leaves-the-bits@zs_ring.h@s/zs_exchange\(&s->parked\[w\], 0, ZS_PARKED_RMW\)/zs_load(\&s->parked[w], ZS_PARKED_RMW)/@peers
waker-does-not-move-generation@zs_ring.h@/^    zs_fetch_add\(s->generation, 1, ZS_GENERATION_RMW\); .. SYNC park ..$/{x;s/^/x/;/^x$/{x;d};x}@steps
sleeper-does-not-check-its-bit@zs_ring.h@s/while \(\(zs_load\(word, ZS_RELAXED\) & bit\) == 0\);/while (0);/@steps
wake-before-generation@zs_ring.h@/^    zs_fetch_add\(s->generation, 1, ZS_GENERATION_RMW\);                .. SYNC park ../d; s/^        zs_count\(&s->counters->wakes, 1\);/&zs_fetch_add(s->generation, 1, ZS_GENERATION_RMW);/@steps slots
# --- † join, reliable, space
join-reads-published-first@zs_peers.h@s/^    published = zs_load\(s->published, ZS_PUBLISHED_LOAD\);.*//@steps
join-hides-its-history@zs_peers.h@s/zs_store\(&peer->cursor, zs_cursor_at\(r, published, .*\), ZS_RELAXED\);/zs_store(\&peer->cursor, published, ZS_RELAXED);/@steps
join-is-not-clamped@zs_peers.h@/zs_cursor_wanted\(const/,/^}/s/return wanted > floor \? wanted : floor;/return wanted + 0 * floor;/@peers
join-begins-below-what-is-there@zs_peers.h@/zs_cursor_at\(const/,/^}/s/return wanted > floor \? wanted : floor;/return wanted + 0 * floor;/@peers
join-fills-the-window-at-once@zs_peers.h@s/uint64_t kept = !r->reliable \?/uint64_t kept = 1 ?/@peers
join-does-not-count@zs_peers.h@s/r->lost = cursor - wanted;/r->lost = 0 * (cursor - wanted);/@peers
end-counts-no-gap@zs_ring.h@s/r->lost \+= next - 1 - r->cursor;/r->lost += 0;/@ring
end-believes-published@zs_ring.h@/zs_reader_finish\(/,/^}/s/zs_tag_distance\(.*published\) != 0\)/0)/@ring
window-forgets-loans@zs_peers.h@s/o->published \+ o->loans_out \+ 1/o->published + 1/@peers
release-tells-nobody@zs_ring.h@/SYNC space: pairs with zs_owner_reliable_floor/!s/if \(zs_load\(s->waiting, ZS_WAITING_LOAD\) != 0\)/if (0)/@peers
cursor-tells-nobody@zs_ring.h@s/if \(zs_load\(r->segment->waiting, ZS_WAITING_LOAD\) != 0\)/if (0)/@peers
reliable-comes-after-the-look@zs_peers.h@/^    if \(r->reliable\)$/,/comes with/d; s/^    zs_reader_move\(r, zs_cursor_at.*/&\n    if (r->reliable) zs_fetch_or(\&s->reliable[r->index \/ 64], bit, ZS_RELAXED);/@steps
clear-leaves-reliable@zs_peers.h@/zs_fetch_and\(&s->reliable\[word\], ~bit, ZS_RELAXED\);/d@peers
everyone-is-waited-for@zs_peers.h@/waited_for &= zs_load\(&s->reliable/d; s/^        if \(waited_for != 0\)$//@peers
leave-tells-nobody@zs_peers.h@/^static inline void zs_reader_leave/,/^}/s/zs_bump_space\(s\);//@steps
clear-takes-the-whole-word@zs_peers.h@s/zs_fetch_and\(readers, ~bit, ZS_RELEASE_RMW\)/zs_fetch_and(readers, 0, ZS_RELEASE_RMW)/@peers
# --- orders that ThreadSanitizer can see; the others need the weak-memory explorer
order-commit@-@-DZS_RING_STORE=0 -DZS_SEQUENCE_STORE=0 -DZS_PUBLISHED_STORE=0@tsan
order-take@-@-DZS_RING_LOAD=0 -DZS_LEASE_LOAD=0 -DZS_LEASE_RMW=0 -DZS_PUBLISHED_LOAD=0@tsan
order-release@-@-DZS_RELEASE_RMW=0@tsan
order-reserve@-@-DZS_RETIRE_LOAD=0@tsan
TABLE
rm -rf "$work"
echo "mutants: $((total - survived)) of $total caught"
[ "$survived" -eq 0 ]
