#!/bin/sh
# First process of the test guest: says what it runs on, then does what the kernel command line asks for.
#   husk.poweroff  switch off            husk.reboot  reset
#   husk.panic     make the kernel panic
#   husk.shell     a shell on the console, and off when it ends
#   husk.wait      idle; off when the power button is pressed
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

read -r words </proc/cmdline
for word in $words; do
    case $word in
    husk.poweroff) echo "husk-guest: off"; poweroff -f ;;
    husk.reboot) echo "husk-guest: reboot"; reboot -f ;;
    husk.panic) echo c >/proc/sysrq-trigger ;;
    husk.shell) setsid cttyhack sh; poweroff -f ;;
    husk.wait) power_button; poweroff -f ;;
    esac
done
echo "husk-guest: nothing asked for"
exec sleep 100000
