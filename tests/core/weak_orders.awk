# The orders of zs_atomic.h as variables: #define ZS_RING_STORE ZS_RELEASE becomes weak_orders[n].now, which begins as __ATOMIC_RELEASE.
$1 == "#define" && $2 ~ /^ZS_[A-Z]+_(STORE|LOAD|RMW)$/ && $3 ~ /^ZS_(RELAXED|ACQUIRE|RELEASE|SEQ_CST)$/ {
    name[count++] = $2
    order[$2] = $3
    sub(/^ZS_/, "__ATOMIC_", order[$2])
}
END {
    if (count < 20) exit 1
    print "static struct weak_order {\n    const char *name;\n    int shipped, now;\n} weak_orders[] = {"
    for (i = 0; i < count; i++) printf "    {\"%s\", %s, %s},\n", name[i], order[name[i]], order[name[i]]
    print "};\n#define WEAK_ORDERS " count
    for (i = 0; i < count; i++) print "#define " name[i] " weak_orders[" i "].now"
}
