#!/bin/sh
# check.sh model holds|breaks|trail [-D...]: search every state of a model. Prints the number of states and what was expected; fails
# when it was not so. A `holds` that found an error leaves its steps in $BUILD; `trail` prints them.
set -u
model=$1 expected=$2
shift 2
work=$(mktemp -d "$(cd "$BUILD" && pwd)/$model.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cp "$model.pml" "$work" && cd "$work" || exit 1
${SPIN:-spin} -a "$@" "$model.pml" >says 2>&1 || { cat says >&2; exit 1; }
# An error is found within moments; only a search of everything is worth the compiler's time.
case $expected in holds) optimise=-O1 ;; *) optimise=-O0 ;; esac
${CC:-cc} $optimise -w -DSAFETY -DMEMLIM=1000 pan.c -o pan || exit 1
./pan -m1000000 -w22 >says 2>&1
errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' says)
states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' says)
if grep -qE 'MEMLIM|max search depth|out of memory' says || [ -z "$errors" ]; then
    echo "model: $model $*: the search is not complete" >&2; cat says >&2; exit 1
fi
case $expected in
    trail) grep '^pan:' says; ${SPIN:-spin} -t -p -g "$@" "$model.pml"; exit 0 ;;
    holds) [ "$errors" -eq 0 ] || { echo "model: $model $* does not hold: $(grep -m1 '^pan:' says)" >&2; exit 1; } ;;
    breaks) [ "$errors" -ne 0 ] || { echo "model: $model $*: a rule is left out, and nothing breaks" >&2; exit 1; } ;;
esac
echo "$states $expected $model $*"
