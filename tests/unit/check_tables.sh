#!/bin/sh
# iasl takes each ACPI table apart and puts it together again, and must find nothing to complain of.
# usage: IASL=... check_tables.sh DUMP_TABLES
set -eu
dump=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check_acpi() {
    dir=$work/$1
    shift
    mkdir "$dir"
    "$dump" "$dir" "$@"
    for table in DSDT FACP APIC MCFG XSDT; do
        (cd "$dir" && "$IASL" -d $table.dat >$table.d.log 2>&1 && "$IASL" $table.dsl >$table.c.log 2>&1) || {
            cat "$dir/$table".*.log
            echo "iasl refuses $table of a guest with: $*"
            exit 1
        }
        if grep -qiE '\*\*|(error|warning) [0-9]{4}|invalid|incorrect|could not' "$dir/$table".*.log ||
            ! grep -q '0 Errors, 0 Warnings, 0 Remarks' "$dir/$table.c.log" &&
            ! grep -q 'Table Output' "$dir/$table.c.log"; then
            cat "$dir/$table".*.log
            echo "iasl complains of $table of a guest with: $*"
            exit 1
        fi
    done
    echo "iasl finds nothing to complain of: $*"
}

# boot vCPUs, possible vCPUs, serial port, bytes of the 64-bit PCI window
check_acpi one 1 1 1 0x1000000000
check_acpi plain 2 2 0 0
check_acpi absent 2 8 1 0x1000000000
check_acpi full 254 254 1 0x3f0000000000
