#!/bin/sh
# boot.sh DIR CGROUP: begins systemd as the first process of namespaces of its own, in a copy of this machine's root whose
# changes are in DIR/changes. DIR/lib has what is to be on a disk, DIR/boot_id the name of the boot. No unit is enabled
# but those that the copy has enabled. It returns when systemd ends.
set -eu
dir=$1 cgroup=$2
if [ "${3:-}" != inside ]; then
	# Its cgroups are below ones that nothing else uses. Where one cannot be had, as with cpuset, systemd does without.
	for of in $(awk '$3 ~ /^cgroup2?$/ && $2 ~ "^/sys/fs/cgroup" {print $2}' /proc/mounts); do
		mkdir -p "$of/$cgroup"
		echo $$ 2>/dev/null >"$of/$cgroup/cgroup.procs" || true
	done
	exec unshare --mount --pid --cgroup --ipc --fork --kill-child=KILL sh "$0" "$dir" "$cgroup" inside
fi
mount --make-rprivate /
root=$dir/root
hierarchies=$(awk '$3 ~ /^cgroup2?$/ && $2 ~ "^/sys/fs/cgroup" {print $3, $2, $4}' /proc/mounts)
mount -t overlay -o "lowerdir=/,upperdir=$dir/changes/upper,workdir=$dir/changes/work" overlay "$root"
cd "$root"
mount -t proc proc proc
mount --bind "$dir/boot_id" proc/sys/kernel/random/boot_id
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
echo "$hierarchies" | while read -r type point options; do
	# What it has beside names of controllers does not matter.
	options=$(echo "$options" | tr , '\n' | grep -vxE 'rw|ro|nosuid|nodev|noexec|relatime|nsdelegate|memory_recursiveprot|release_agent=.*' | paste -sd, -)
	[ "$point" = /sys/fs/cgroup ] || mkdir ".$point"
	case $options in name=*) options=none,$options ;; esac
	mount -t "$type" ${options:+-o "$options"} "$type" ".$point"
done
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty fuse; do
	touch dev/$node
	mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
for of in docker containerd volary; do
	mkdir -p "$dir/lib/$of" var/lib/$of
	mount --bind "$dir/lib/$of" var/lib/$of
done
mount -t tmpfs tmpfs tmp
pivot_root . mnt
umount -l /mnt
cd /
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=test.target --log-target=journal --show-status=no </dev/null
