#!/bin/sh
# First process of the test guest: says what it runs on, then does what the kernel command line asks for.
#   husk.poweroff  switch off            husk.reboot  reset
#   husk.panic     make the kernel panic
#   husk.shell     a shell on the console, and off when it ends
#   husk.login     ask for a login on hvc0, and off when the shell that follows ends
#   husk.wait      idle; off when the power button is pressed
#   husk.cut       the same, without writing back what was written to disks
# and, before one of these:
#   husk.hvc0        a thousand lines on hvc0
# with the first disk:
#   husk.disk-copy   copy its second half over its first
#   husk.disk-write  write to it for as long as the guest runs
#   husk.disk-sum    say what is on it
#   husk.page=URL    fetch a page over the first network interface, which gets the address 10.96.0.2
/bin/busybox mkdir -p /bin /proc /sys /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev 2>/dev/null
/bin/busybox --install -s /bin
export PATH=/bin
exec </dev/console >/dev/console 2>&1
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order

uname -a
echo "husk-guest: memory $(awk '/MemTotal/ { print $2 }' /proc/meminfo) kB"
echo "husk-guest: cpus $(nproc)"

# Blocks until the ACPI power button's input device reports something (one input event is 24 bytes).
power_button() {
    for input in /sys/class/input/event*; do
        if [ "$(cat "$input/device/name" 2>/dev/null)" = "Power Button" ]; then
            # What is pressed before the device is open is lost.
            exec 4<"/dev/input/${input##*/}"
            echo "husk-guest: waiting for the power button"
            dd bs=24 count=1 <&4 >/dev/null 2>&1
            echo "husk-guest: power button pressed"
            return
        fi
    done
    echo "husk-guest: no power button"
    exec sleep 100000
}

# One line about each disk.
disks() {
    for disk in /sys/block/vd*; do
        [ -d "$disk" ] || continue
        set -- "$disk"/mq/*
        echo "husk-guest: ${disk##*/} $(($(cat "$disk/size") * 512)) bytes, $# queues, serial $(cat "$disk/serial")," \
            "ro $(cat "$disk/ro")"
    done
}

disk_sum() {
    echo "husk-guest: vda sum $(md5sum </dev/vda | cut -c 1-32)"
}

page() {
    ip addr add 10.96.0.2/24 dev eth0
    ip link set eth0 up
    n=0
    until found=$(wget -q -O - "$1" 2>/dev/null) || [ $((n += 1)) = 30 ]; do
        sleep 1
    done
    echo "husk-guest: page: $found"
}

disk_copy() {
    disk_sum
    half=$(($(cat /sys/block/vda/size) / 2 / 2048))
    dd if=/dev/vda of=/dev/vda bs=1M skip="$half" count="$half" conv=notrunc,fsync 2>/dev/null
    echo 3 >/proc/sys/vm/drop_caches
    disk_sum
}

disk_write() {
    while dd if=/bin/busybox of=/dev/vda bs=64k count=4 conv=notrunc,fsync 2>/dev/null; do
        echo "husk-guest: written"
    done
    echo "husk-guest: writing failed"
}

# Root has no password.
login_on_hvc0() {
    mkdir -p /etc /root
    echo "root::0:0:root:/root:/bin/sh" >/etc/passwd
    until [ -c /dev/hvc0 ]; do sleep 0.1; done
    echo "husk-guest: login"
    setsid getty -L 0 hvc0 vt100
    # getty has become the shell.
    echo "husk-guest: logged out"
}

# Before a last word of the kernel: what was printed has got out, and does not end up behind or in the middle of it.
drain() {
    stty cs8 2>/dev/null
}

disks
read -r words </proc/cmdline
for word in $words; do
    case $word in
    husk.poweroff) echo "husk-guest: off"; drain; poweroff -f ;;
    husk.reboot) echo "husk-guest: reboot"; drain; reboot -f ;;
    husk.panic) drain; echo c >/proc/sysrq-trigger ;;
    husk.shell) setsid cttyhack sh; drain; poweroff -f ;;
    husk.hvc0) until [ -c /dev/hvc0 ]; do sleep 0.1; done; seq 1 1000 | sed 's,^,line ,' >/dev/hvc0 ;;
    husk.login) login_on_hvc0; drain; poweroff -f ;;
    husk.wait) power_button; drain; poweroff -f ;;
    husk.cut) power_button; drain; poweroff -n -f ;;
    husk.disk-copy) disk_copy ;;
    husk.disk-sum) disk_sum ;;
    husk.page=*) page "${word#*=}" ;;
    husk.disk-write) disk_write & ;;
    esac
done
echo "husk-guest: nothing asked for"
exec sleep 100000
