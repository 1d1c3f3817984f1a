#!/bin/sh
# Boots a Debian under its own systemd as pid 1 of fresh mount, uts, ipc, pid, cgroup and network
# namespaces. What it mounts goes with them; FOLDER/state outlives a cut, as a disk does.
#
#   systemd.sh CHROOT FOLDER NODES
#
# NODES   the slots' devices as "name:major:minor …"
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot=$1 folder=$2 nodes=$3
base=$folder/base state=$folder/state
mkdir -p "$base"
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=$chroot,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
cd "$base/root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mount -t tmpfs -o mode=755 tmpfs run
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    numbers=${node#*:}
    mknod -m 666 "dev/${node%%:*}" c "${numbers%:*}" "${numbers#*:}"
done
for node in $nodes; do
    numbers=${node#*:}
    mknod -m 600 "dev/${node%%:*}" b "${numbers%:*}" "${numbers#*:}"
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm

if [ ! -d "$state" ]; then # a machine as it was installed
    mkdir -p "$state/webroot" "$state/db" "$state/libexec"
    cp -a etc/systemd/system "$state/system"
fi
mkdir -p webroot var/db usr/local/libexec
mount --bind "$state/webroot" webroot
mount --bind "$state/db" var/db
mount --bind "$state/libexec" usr/local/libexec
mount --bind "$state/system" etc/systemd/system

# Every boot has its own id, although it shares the machine's kernel.
cat /proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
hostname www1
pivot_root . mnt
umount -l mnt
cd /
exec env -i container=other PATH="$PATH" /lib/systemd/systemd </dev/null >/dev/null 2>&1
