# What containers promise, on cgroup v2 alone. Each case_NAME is a promise; it fails when any of its commands does (set -e),
# and must leave nothing behind that disturbs the next. `inside` is a file of the container's own cgroup.

run() { docker run --rm "$@"; }
inside() { echo "/sys/fs/cgroup/$1"; }
is() { [ "$1" = "$2" ] || { echo "got: $1"; echo "want: $2"; return 1; }; }
has() { case "$1" in *"$2"*) ;; *) echo "got: $1"; echo "want in it: $2"; return 1 ;; esac; }
# Must fail, and say that.
refused() { want=$1; shift; said=$("$@" 2>&1) && { echo "it was allowed: $said"; return 1; }; has "$said" "$want"; }
now() { cut -d. -f1 /proc/uptime; }
until_true() { end=$(($(now) + 20)); while [ "$(now)" -lt $end ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done; echo "never: $*"; return 1; }
sleeper() { docker run -d --name box "$@" busybox sleep 1000 >/dev/null; }
gone() { docker rm -f "$@" >/dev/null; }
vda() { stat -c '%t:%T' /dev/vda; }
# Major number of the disk, decimal.
disk() { echo $((0x$(stat -c %t /dev/vda))); }

case_version() {
    is "$(docker info -f '{{.CgroupVersion}} {{.CgroupDriver}}')" "2 cgroupfs"
}

case_hello() {
    is "$(run busybox echo hello)" hello
}

case_exit_code() {
    code=0; run busybox sh -c 'exit 7' || code=$?
    is $code 7
}

case_memory() {
    is "$(run -m 32m --memory-swap 48m --memory-reservation 16m busybox cat $(inside memory.max) $(inside memory.swap.max) $(inside memory.low))" \
        "33554432
16777216
16777216"
}

case_oom() {
    code=0; docker run --name box -m 16m --memory-swap 16m busybox tail /dev/zero || code=$?
    is $code 137
    is "$(docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' box)" "true 137"
    until_true sh -c 'docker events --since 5m --until $(date +%s) --filter container=box --filter event=oom --format "{{.Action}}" | grep oom'
    gone box
}

case_oom_of_a_child() {
    docker run -d --name box -m 24m --memory-swap 24m busybox sh -c 'tail /dev/zero; sleep 1000' >/dev/null
    until_true sh -c 'docker events --since 5m --until $(date +%s) --filter container=box --filter event=oom --format "{{.Action}}" | grep oom'
    is "$(docker inspect -f '{{.State.Running}}' box)" true
    gone box
}

case_cpus() {
    is "$(run --cpus 0.5 busybox cat $(inside cpu.max))" "50000 100000"
    is "$(run --cpu-shares 512 busybox cat $(inside cpu.weight))" 20
    is "$(run --cpu-quota 20000 --cpu-period 50000 busybox cat $(inside cpu.max))" "20000 50000"
}

case_cpuset() {
    is "$(run --cpuset-cpus 1 busybox sh -c "cat $(inside cpuset.cpus.effective); nproc")" "1
1"
    is "$(run --cpuset-mems 0 busybox cat $(inside cpuset.mems))" 0
}

case_pids() {
    is "$(run --pids-limit 8 busybox cat $(inside pids.max))" 8
    has "$(run --pids-limit 8 busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait' 2>&1 || true)" "can't fork"
}

case_devices() {
    run busybox sh -c 'echo x >/dev/null; head -c1 /dev/urandom >/dev/null; echo x >/dev/full 2>/dev/null; [ -c /dev/tty ]'
    # Making a node is allowed, using it is not.
    refused "can't open" run busybox sh -c "mknod /d b $(disk) 0 && dd if=/d of=/dev/null bs=512 count=1"
    refused "can't open" run busybox sh -c "mknod /d c 1 1 && dd if=/d of=/dev/null bs=1 count=1"
    is "$(run -t busybox sh -c 'test -t 0 && echo terminal' | tr -d '\r')" terminal
}

case_device_added() {
    run --device /dev/vda:/dev/disk:r busybox dd if=/dev/disk of=/dev/null bs=512 count=1
    refused "can't open" run --device /dev/vda:/dev/disk:r busybox dd if=/dev/zero of=/dev/disk bs=512 count=1
    run --device /dev/vda:/dev/disk:rw busybox dd if=/dev/zero of=/dev/disk bs=512 count=1
}

case_device_rule() {
    run --device-cgroup-rule "b $(disk):* r" busybox sh -c "mknod /d b $(disk) 0 && dd if=/d of=/dev/null bs=512 count=1"
    refused "can't open" run --device-cgroup-rule "b $(disk):7 r" busybox sh -c "mknod /d b $(disk) 0 && dd if=/d of=/dev/null bs=512 count=1"
}

case_device_exec() {
    sleeper
    refused "can't open" docker exec box sh -c "mknod /d b $(disk) 0 && dd if=/d of=/dev/null bs=512 count=1"
    gone box
}

case_privileged() {
    run --privileged busybox dd if=/dev/vda of=/dev/null bs=512 count=1
    run --privileged busybox sh -c 'mkdir /sys/fs/cgroup/below && rmdir /sys/fs/cgroup/below'
}

case_pause() {
    docker run -d --name box busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i >/n; usleep 10000; done' >/dev/null
    until_true docker exec box test -s /n
    docker pause box
    is "$(docker inspect -f '{{.State.Status}} {{.State.Paused}}' box)" "paused true"
    has "$(cat /sys/fs/cgroup/weft/$(docker inspect -f '{{.Id}}' box)/cgroup.events)" "frozen 1"
    docker unpause box
    is "$(docker inspect -f '{{.State.Status}}' box)" running
    before=$(docker exec box cat /n); sleep 0.3; [ "$(docker exec box cat /n)" != "$before" ]
    docker pause box
    docker kill box
    until_true sh -c '[ "$(docker inspect -f "{{.State.Status}}" box)" = exited ]'
    gone box
}

case_stats() {
    sleeper -m 64m
    docker exec box dd if=/dev/zero of=/dev/shm/f bs=1M count=8
    said=$(docker stats --no-stream --format '{{.MemUsage}} pids={{.PIDs}} cpu={{.CPUPerc}}' box)
    has "$said" "/ 64MiB"
    has "$said" "pids=1 "
    case "$said" in [89].*MiB*|1?.*MiB*) ;; *) echo "$said"; return 1 ;; esac
    gone box
}

case_update() {
    sleeper -m 32m --memory-swap 32m
    docker update -m 64m --memory-swap 96m --cpus 0.25 --pids-limit 33 --cpuset-cpus 0 --cpu-shares 2048 box
    is "$(docker exec box cat $(inside memory.max) $(inside memory.swap.max) $(inside cpu.max) $(inside pids.max) $(inside cpuset.cpus) $(inside cpu.weight))" \
        "67108864
33554432
25000 100000
33
0
79"
    refused "can't open" docker exec box sh -c "mknod /d b $(disk) 0 && dd if=/d of=/dev/null bs=512 count=1"
    gone box
}

case_block_io() {
    has "$(run --device-write-bps /dev/vda:1mb --device-read-iops /dev/vda:100 busybox cat $(inside io.max))" \
        "$(disk):0 rbps=max wbps=1048576 riops=100 wiops=max"
    run --blkio-weight 500 busybox sh -c 'for f in io.bfq.weight io.weight; do if [ -e /sys/fs/cgroup/$f ]; then cat /sys/fs/cgroup/$f; fi; done'
}

case_exec() {
    sleeper
    is "$(docker exec box cat /proc/self/cgroup)" "0::/"
    id=$(docker inspect -f '{{.Id}}' box)
    docker exec -d box sleep 77
    until_true sh -c "for p in \$(cat /sys/fs/cgroup/weft/$id/cgroup.procs); do tr '\\0' ' ' </proc/\$p/cmdline; done | grep -q 'sleep 77'"
    has "$(docker top box)" "sleep 77"
    gone box
}

case_cgroup_namespace() {
    is "$(run busybox cat /proc/self/cgroup)" "0::/"
    has "$(run --cgroupns host busybox cat /proc/self/cgroup)" "0::/weft/"
    refused "Read-only file system" run busybox mkdir /sys/fs/cgroup/x
}

case_cgroup_parent() {
    has "$(run --cgroup-parent /other --cgroupns host busybox cat /proc/self/cgroup)" "0::/other/"
}

case_stop() {
    docker run -d --name box busybox sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done' >/dev/null
    id=$(docker inspect -f '{{.Id}}' box)
    [ -d /sys/fs/cgroup/weft/$id ]
    docker stop -t 20 box
    is "$(docker inspect -f '{{.State.ExitCode}}' box)" 5
    until_true test ! -e /sys/fs/cgroup/weft/$id
    gone box
}

case_cgroups_below() {
    docker run -d --name box --privileged busybox sh -c 'mkdir /sys/fs/cgroup/a && echo 0 >/sys/fs/cgroup/a/cgroup.procs && sleep 1000' >/dev/null
    until_true docker exec box test -d /sys/fs/cgroup/a
    id=$(docker inspect -f '{{.Id}}' box)
    is "$(docker exec box echo entered)" entered
    gone box
    until_true test ! -e /sys/fs/cgroup/weft/$id
}

case_network() {
    docker network create web >/dev/null
    docker run -d --name box --network web -p 8080:80 busybox sh -c 'mkdir /w; echo page >/w/index.html; httpd -f -p 80 -h /w' >/dev/null
    until_true run --network web busybox wget -q -O- http://box/
    is "$(wget -q -O- http://127.0.0.1:8080/)" page
    gone box
    docker network rm web >/dev/null
}

case_daemon_killed() {
    sleeper --restart always
    pid=$(docker inspect -f '{{.State.Pid}}' box)
    kill -9 "$(pidof weft | tr ' ' '\n' | while read -r p; do tr '\0' ' ' </proc/$p/cmdline | grep -q ' up' && echo $p; done)"
    sleep 0.5
    weft up --detach >>/tmp/up.log 2>&1
    is "$(docker inspect -f '{{.State.Pid}} {{.State.Running}}' box)" "$pid true"
    is "$(docker exec box echo there)" there
    gone box
}

case_oom_told() {
    # The kernel kills one of several: seen in the event, in inspect, and in the kernel's own count.
    docker run -d --name box -m 24m --memory-swap 24m busybox sh -c 'tail /dev/zero; cat /sys/fs/cgroup/memory.events >/events; sleep 1000' >/dev/null
    until_true docker exec box grep -q 'oom_kill 1' /events
    until_true sh -c '[ "$(docker inspect -f "{{.State.OOMKilled}} {{.State.Running}}" box)" = "true true" ]'
    docker restart -t 0 box
    gone box
}

case_pause_stops_all() {
    # A tree of processes, an exec among them; what is frozen uses no time and can be stopped.
    sleeper
    docker exec -d box sh -c 'while :; do :; done'
    id=$(docker inspect -f '{{.Id}}' box)
    until_true sh -c "[ \$(wc -l </sys/fs/cgroup/weft/$id/cgroup.procs) -ge 2 ]"
    docker pause box
    used() { grep usage_usec /sys/fs/cgroup/weft/$id/cpu.stat; }
    before=$(used); sleep 1; is "$(used)" "$before"
    refused "paused" docker exec box true
    docker unpause box
    before=$(used); sleep 1; [ "$(used)" != "$before" ]
    docker pause box
    docker stop -t 1 box
    is "$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' box)" "exited 137"
    gone box
}

case_update_both_ways() {
    # Down below what is in use is refused or reclaimed, never half done; up again; without limits.
    sleeper -m 64m --memory-swap 64m --pids-limit 50
    docker update -m 32m --memory-swap 32m box
    is "$(docker exec box cat $(inside memory.max) $(inside memory.swap.max))" "33554432
0"
    docker update --memory-swap -1 box
    is "$(docker exec box cat $(inside memory.swap.max))" max
    docker update --pids-limit -1 box
    is "$(docker exec box cat $(inside pids.max))" max
    docker update --cpus 2 box
    is "$(docker exec box cat $(inside cpu.max))" "200000 100000"
    docker update --restart on-failure:3 box
    is "$(docker inspect -f '{{.HostConfig.RestartPolicy.MaximumRetryCount}} {{.HostConfig.Memory}}' box)" "3 33554432"
    gone box
}

case_update_stopped() {
    docker create --name box busybox cat $(inside memory.max) >/dev/null
    docker update -m 48m --memory-swap 48m box
    is "$(docker start -a box)" 50331648
    gone box
}

case_stats_stream() {
    docker run -d --name box -m 64m busybox sh -c 'while :; do dd if=/dev/zero of=/dev/null bs=64k count=64 2>/dev/null; done' >/dev/null
    sleep 2
    said=$(docker stats --no-stream --format '{{.CPUPerc}} {{.BlockIO}} {{.NetIO}} {{.PIDs}}' box)
    case "$said" in 0.00%*) echo "no time was used: $said"; return 1 ;; esac
    gone box
}

case_exec_limits() {
    # What joins later is held by the same limits and rules, with another user and a terminal, too.
    sleeper -m 24m --memory-swap 24m --pids-limit 6
    code=0; docker exec box tail /dev/zero || code=$?
    is $code 137
    is "$(docker inspect -f '{{.State.Running}}' box)" true
    is "$(docker exec -u 7:8 box id -u)" 7
    is "$(docker exec -t box sh -c 'test -t 0 && cat /proc/self/cgroup' | tr -d '\r')" "0::/"
    # Last: nobody in there reaps what this leaves.
    has "$(docker exec box sh -c 'for i in 1 2 3 4 5 6 7; do sleep 3 & done; wait' 2>&1 || true)" "can't fork"
    gone box
}

case_device_null() {
    # The last rule that fits decides; a container of its own rules does not loosen another's.
    sleeper --device /dev/vda
    docker exec box dd if=/dev/vda of=/dev/null bs=512 count=1
    refused "can't open" run busybox sh -c "mknod /d b $(disk) 0 && dd if=/d of=/dev/null bs=512 count=1"
    docker restart -t 0 box
    docker exec box dd if=/dev/vda of=/dev/null bs=512 count=1
    gone box
}

case_parent_shared() {
    # A parent of people's own, two levels deep, without systemd: its limits hold for all below, and it stays theirs.
    mkdir -p /sys/fs/cgroup/mine/slice
    docker run -d --name box --cgroup-parent /mine/slice -m 32m busybox sleep 1000 >/dev/null
    docker run -d --name box2 --cgroup-parent /mine/slice busybox sleep 1000 >/dev/null
    id=$(docker inspect -f '{{.Id}}' box)
    is "$(cat /sys/fs/cgroup/mine/slice/$id/memory.max)" 33554432
    echo 20 >/sys/fs/cgroup/mine/slice/pids.max
    has "$(docker exec box2 sh -c 'for i in $(seq 30); do sleep 3 & done; wait' 2>&1 || true)" "can't fork"
    docker stats --no-stream box box2 >/dev/null
    docker pause box; docker unpause box
    gone box box2
    until_true test ! -e /sys/fs/cgroup/mine/slice/$id
    test -d /sys/fs/cgroup/mine/slice
    rmdir /sys/fs/cgroup/mine/slice /sys/fs/cgroup/mine
}

case_cgroupns_private() {
    is "$(run --cgroupns private busybox cat /proc/self/cgroup)" "0::/"
    # It sees itself as the root, and nothing above or beside.
    sleeper --cgroupns private
    has "$(docker exec box ls /sys/fs/cgroup)" cgroup.procs
    refused "No such file" docker exec box ls /sys/fs/cgroup/weft
    is "$(docker inspect -f '{{.HostConfig.CgroupnsMode}}' box)" private
    gone box
    # With the host's, the whole tree can be seen and not written.
    has "$(run --cgroupns host busybox ls /sys/fs/cgroup)" weft
    refused "Read-only file system" run --cgroupns host busybox sh -c 'echo 1 >/sys/fs/cgroup/weft/pids.max'
    run --privileged --cgroupns private busybox sh -c 'mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x'
}

case_pid_shared() {
    sleeper
    has "$(run --pid container:box busybox ps)" "sleep 1000"
    has "$(run --pid container:box --cgroupns host busybox cat /proc/self/cgroup)" "0::/weft/"
    gone box
}

case_own_verbs() {
    is "$(weft run --rm busybox echo hello)" hello
    weft run -d --name box busybox sleep 1000
    has "$(weft ps)" box
    has "$(weft stats --no-stream box)" box
    weft rm -f box
}

case_nothing_left() {
    is "$(docker ps -aq)" ""
    is "$(ls -d /sys/fs/cgroup/weft/*/ /sys/fs/cgroup/other/*/ 2>/dev/null || true)" ""
    is "$(grep -c /containers/ /proc/mounts || true)" 0
    is "$(pidof weft-shim || true)" ""
}
