#!/bin/sh
# First process of the emulated test host: loads KVM and becomes the agent on the virtio serial port.

# Below another mount of it the archive is a root like any other: pivot_root(2) is for none that nothing is below.
if [ "$1" != rooted ]; then
    /bin/busybox mkdir -p /root
    /bin/busybox mount --bind / /root
    cd /root || exit 1
    /bin/busybox mount --move . /
    exec /bin/busybox chroot . /init rooted
fi
/bin/busybox mkdir -p /bin /proc /sys /dev /tmp /run
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec </dev/console >/dev/console 2>&1
mkdir -p /dev/pts /dev/shm /root
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
ln -s /proc/self/fd /dev/fd
ip link set lo up
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
echo "husk-host: up, KVM $(ls -d /sys/module/kvm_amd)"
set -- /dev/vport*p1
exec /agent "$1"
