#!/bin/sh
# Boots one lab frontend and stays as its pid 1. Runs in fresh mount, uts, ipc, pid and network
# namespaces; everything it mounts goes with them.
#
#   boot.sh FOLDER NAME DISK STATE NODES
#
# FOLDER  the frontend's folder on the machine; FOLDER/files is laid over the machine's own files
# STATE   the partition that survives a reboot of the frontend
# NODES   the disk's nodes as "name:major:minor:label …"; the label is empty for the whole disk
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
folder=$1 name=$2 state=$3 nodes=$4

make_node() { mknod -m 666 "dev/$1" c "$2" "$3"; }

base=$folder/base
mkdir -p "$base"
mount -t tmpfs -o mode=755,size=1g "lab-$name" "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
cd "$base/root"

# Its own folders for what must not be the machine's. The rest of the machine is read through.
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=700 tmpfs root
mount -t tmpfs -o mode=755 tmpfs dev
mount -t proc proc proc
mount -t sysfs sysfs sys

make_node null 1 3
make_node zero 1 5
make_node full 1 7
make_node random 1 8
make_node urandom 1 9
make_node tty 5 0
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
ln -s pts/ptmx dev/ptmx
mkdir -p dev/pts dev/shm dev/disk/by-partlabel
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
for node in $nodes; do
  node_name=${node%%:*} rest=${node#*:}
  major=${rest%%:*} rest=${rest#*:}
  minor=${rest%%:*} label=${rest#*:}
  mknod -m 600 "dev/$node_name" b "$major" "$minor"
  [ -z "$label" ] || ln -s "../../$node_name" "dev/disk/by-partlabel/$label"
done

# What a reboot keeps: the records and the link, as on a frontend with a disk of its own.
mkdir -p state webroot var/db home srv
mount -t ext4 "/dev/$state" state
mkdir -p state/db state/webroot/cgi1 state/webroot/cgi2 state/home state/srv
mount --bind state/db var/db
mount --bind state/webroot webroot
mount --bind state/home home
mount --bind state/srv srv
mkdir -p state/libexec usr/local/libexec
mount --bind state/libexec usr/local/libexec
mkdir -p home/alice/public_html srv/sessions
chmod 1777 srv/sessions

rm -rf etc/service  # a symlink on Debian, to the machine's own services
cp -R "$folder/files/." .
chmod 700 root root/.ssh
chmod 600 root/.ssh/authorized_keys etc/ssh/lab_host_key etc/shadow

# Every boot has its own id, although all frontends share the machine's kernel.
cat /proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id

hostname "$name"
mkdir -p run/sshd run/lock
pivot_root . .
umount -l .
cd /

# A shell that waits is pid 1: it reaps every orphan at once, as a real init does
# (runsvdir looks every five seconds only, and a zombie still answers kill -0).
exec env -i PATH="$PATH" HOME=/root chroot / /bin/dash -c '
  [ ! -x /usr/local/libexec/slotctl ] || /usr/local/libexec/slotctl boot >/run/slotctl.log 2>&1
  runsvdir -P /etc/service & while :; do wait; sleep 1; done'
