#!/bin/busybox sh
# The machine's first process: a root that can be pivoted, the kernel's file systems, modules, the daemon, the cases.
export PATH=/bin:/sbin HOME=/root

if [ ! -e /real ]; then
    # The initramfs itself cannot be pivoted away from (pivot_root(2)), so a tmpfs becomes the root.
    /bin/busybox mount -t tmpfs -o mode=755,size=90% root /new
    for d in /bin /sbin /dev /proc /sys /run /tmp /etc /root /lib /lib64 /usr /var /init /cases /cases.sh /image.tar; do
        [ -e $d ] && /bin/busybox cp -a $d /new/
    done
    /bin/busybox touch /new/real
    exec /bin/busybox switch_root /new /init
fi

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec </dev/null >/dev/ttyS0 2>&1
dmesg -n 1
hostname vm
ip link set lo up
while read -r module; do insmod "/lib/modules/$module" || echo "no $module"; done </lib/modules/order
echo "up after $(cut -d. -f1 /proc/uptime) s, controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"

export DOCKER_HOST=unix:///run/weft/docker.sock
weft up --detach >/tmp/up.log 2>&1 || { cat /tmp/up.log; tail -n 50 /var/lib/weft/*.log; }
docker load -q -i /image.tar || cat /tmp/up.log
weft doctor || true
echo "daemon ready after $(cut -d. -f1 /proc/uptime) s"

while read -r name; do
    begun=$(cut -d. -f1 /proc/uptime)
    # In a shell of its own, which ends at the first command that fails: a subshell in a condition would not.
    if sh -ec '. /cases.sh; "case_$0"' "$name" </dev/null >/tmp/said 2>&1; then word=ok; else word=FAIL; fi
    [ $word = ok ] || { docker rm -f box >/dev/null 2>&1; cat /tmp/said; tail -n 20 /tmp/up.log; }
    echo "VM-CASE $name $word $(($(cut -d. -f1 /proc/uptime) - begun))"
done </cases
echo VM-DONE
sync
poweroff -f
