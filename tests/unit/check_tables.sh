#!/bin/sh
# iasl takes each ACPI table apart and puts it together again, and must find nothing to complain of; dmidecode reads the
# SMBIOS tables. acpiexec runs the DSDT in the interpreter that Linux has.
# usage: IASL=... ACPIEXEC=... DMIDECODE=... check_tables.sh DUMP_TABLES
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
    run_acpi "$dir"
    check_smbios "$dir/SMBI.dat"
}

run_acpi() {
    (cd "$1" && "$ACPIEXEC" -b 'resources;evaluate \_S5;execute \_SB.GED._EVT 5;quit' \
        DSDT.dat FACP.dat APIC.dat MCFG.dat >exec.log 2>&1)
    # It also tries to set each device's resources, which are fixed: there is no _SRS. And it may quit while its other
    # thread still holds the notification that _EVT sent, which newer ones report.
    if grep -v -e '^AcpiSetCurrentResources failed: AE_NOT_FOUND' -e 'Outstanding cache allocations' "$1/exec.log" |
        grep -E 'Error|Warning|Exception|AE_[A-Z]' ||
        ! grep -q '\[Integer\] = 0000000000000005' "$1/exec.log" ||
        ! grep -q 'No object was returned from evaluation of .*_EVT' "$1/exec.log"; then
        cat "$1/exec.log"
        echo "acpiexec complains of the ACPI tables"
        exit 1
    fi
}

check_smbios() {
    "$DMIDECODE" --from-dump "$1" >"$1.log" 2>&1
    if grep -iE 'bad|broken|invalid|wrong|truncated|out of spec|<' "$1.log"; then
        cat "$1.log"
        echo "dmidecode complains of the SMBIOS tables"
        exit 1
    fi
    for text in 'SMBIOS 3.0.0 present' 'System is a virtual machine' 'Serial Number: a serial number' \
        'UUID: 00112233-4455-6677-8899-aabbccddeeff' 'Asset Tag: an asset tag' \
        'String 2: second of two' 'Size: 6 GB' 'Range Size: 3 GB' 'End Of Table'; do
        grep -qF "$text" "$1.log" || {
            cat "$1.log"
            echo "dmidecode does not show '$text'"
            exit 1
        }
    done
}

# boot vCPUs, possible vCPUs, serial port, bytes of the 64-bit PCI window, ECAM on q35 (0: the other platform)
check_acpi one 1 1 1 0x1000000000 0
check_acpi plain 2 2 0 0 0
check_acpi absent 2 8 1 0x1000000000 0
check_acpi full 254 254 1 0x3f0000000000 0
check_acpi q35 2 2 1 0x1000000000 0xb0000000
check_acpi q35-new 1 1 0 0 0xe0000000
