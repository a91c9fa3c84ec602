#!/bin/bash
# usage: check_sim_includes.sh SRC
# The simulator is a second opinion: src/sim includes nothing of husk's but its own files and base/, and base/ nothing
# but itself. Prints what does, and fails then.
set -euo pipefail

src=$1
bad=$(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$src/sim" |
    grep -vE '#[[:space:]]*include[[:space:]]*"(sim/|base/|husk_version\.h")' || true)
bad+=$(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$src/base" |
    grep -vE '#[[:space:]]*include[[:space:]]*"base/' || true)
# An include by macro or with brackets would slip through the above.
bad+=$(grep -rnE '#[[:space:]]*include[[:space:]]*(<(snp|launch|kvm|igvm|memory|x86|vmm|devices|config)/|[A-Z_])' \
    "$src/sim" || true)
# The library that is loaded into programs has no cryptography in it.
bad+=$(grep -rn 'openssl/\|sim/crypto\.h\|sim/model\.h' "$src/sim/preload" || true)
if [ -n "$bad" ]; then
    printf 'src/sim includes what it must not:\n%s\n' "$bad"
    exit 1
fi
count=$(find "$src/sim" -name '*.[ch]' | wc -l)
[ "$count" -gt 20 ] || { echo "only $count files found in $src/sim"; exit 1; }
