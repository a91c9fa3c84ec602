#!/bin/sh
# usage: syscall_names.sh CC...
# Writes the names of the kernel's system calls as the rows of a C table.
set -eu
echo '#include <asm/unistd_64.h>' | "$@" -E -dM - |
    awk '/^#define __NR_[a-z0-9_]+ [0-9]+$/ { printf "[%s] = \"%s\",\n", $3, substr($2, 6) }' | sort -t'[' -k2 -n
