#!/bin/sh
# run.sh ready  on every node, before it is in the swarm or after: has its engine find the driver
# run.sh keep   on every node: keeps the newest state of the service's volume there, once there is one
# run.sh start  on a manager: starts a service that counts in a volume
# run.sh show   on a manager: prints on which node it runs, and how far it has come
# run.sh clear  on a manager: removes the service and its volume
set -eu
IMAGE=${IMAGE:-busybox}

case ${1:-} in
ready)
	# An engine looks for a driver when it is asked for volumes, and a swarm for nodes whose engine has found it.
	docker volume ls
	docker info -f '{{.Plugins.Volume}}' | grep -w volary
	;;
keep)
	until volary volume follow counter --pin 1; do sleep 1; done
	;;
start)
	# --network host: it needs no network of its own.
	# --no-resolve-image: no registry is asked, the image is on each node.
	# shellcheck disable=SC2016 # of the container
	docker service create --detach --name counter --replicas 1 --network host --no-resolve-image \
		--restart-delay 1s --stop-grace-period 2s \
		--mount type=volume,source=counter,target=/data,volume-driver=volary,volume-opt=commit=2s \
		"$IMAGE" sh -c '
			n=$(cat /data/n 2>/dev/null || echo 0)
			echo "begins at $n" | tee -a /data/log
			while n=$((n + 1)); do
				echo $n >/data/n.new
				mv /data/n.new /data/n
				sleep 0.1
			done'
	;;
show)
	docker service ps --filter desired-state=running --format '{{.Node}} {{.CurrentState}}' counter
	volary cat counter/n
	;;
clear)
	docker service rm counter
	# Its container may take a while to end.
	while docker volume inspect counter >/dev/null 2>&1; do
		docker volume rm counter 2>/dev/null || sleep 1
	done
	;;
*)
	sed -n '2,6s/^# //p' "$0" >&2
	exit 2
	;;
esac
