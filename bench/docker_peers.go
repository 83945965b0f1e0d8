package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/p2p/nettest"
	"github.com/volary/volary/volume/docker/dockertest"
)

const (
	sftpPort = 2022
	sftpUser = "reader"
	kuboPort = 4001
)

// rclone is a driver that shows what the other host serves by SFTP, a new volume in each round. It goes on running: an engine
// that has once had a driver waits for it whenever a volume of any is made.
func (h *twoHosts) rclone(round int) toRead {
	e := h.reads
	if !h.sftp {
		if _, err := e.Try(h.ctx, rclone(e, "version")...); err != nil {
			h.plan.res.leaveOut(rcloneName, err)
			return toRead{}
		}
		h.sftp = true
		h.has.Run("rclone", rclone(h.has, "serve", "sftp", "--addr", fmt.Sprintf("%s:%d", h.has.IP, sftpPort), "--user", sftpUser, "--pass", sftpUser, h.plain)...)
		dir := filepath.Join(e.Dir, "rclone")
		e.Run("rclone", rclone(e, "serve", "docker", "--cache-dir", dir+"/cache", "--base-dir", dir+"/volumes")...)
		e.Sh("until [ -S /run/docker/plugins/rclone.sock ]; do sleep 0.02; done")
		e.Do("bash", "-c", fmt.Sprintf("until (exec 3<>/dev/tcp/%s/%d); do sleep 0.02; done 2>/dev/null", h.has.IP, sftpPort))
	}
	password := strings.TrimSpace(e.Do(rclone(e, "obscure", sftpUser)...))
	name := fmt.Sprint("rclone-", round)
	return toRead{
		options: mountOf("rclone", name, "type=sftp", "sftp-host="+h.has.IP, fmt.Sprint("sftp-port=", sftpPort), "sftp-user="+sftpUser, "sftp-pass="+password),
		file:    "/v/" + h.data.path(h.file(round)), sum: h.data.sum(h.file(round)),
		end: func() { e.Docker("volume", "rm", name) },
	}
}

// rclone is a command that finds and leaves nothing in the user's home.
func rclone(on *dockertest.Engine, args ...string) []string {
	return append([]string{"env", "HOME=" + filepath.Join(on.Dir, "rclone-home"), "rclone"}, args...)
}

// get brings all of the first directory here before a container can begin.
func (h *twoHosts) get(round int) toRead {
	source := kuboOn{h, h.has.Host, "kubo"}
	directory, name := filepath.Split(h.data.path(h.file(round)))
	if h.shared == "" {
		source.make()
		h.shared = strings.TrimSpace(h.has.Do(source.command("add", "-r", "-Q", "--progress=false", filepath.Join(h.plain, directory))...))
		source.start()
	}
	to := kuboOn{h, h.reads.Host, fmt.Sprint("kubo-", round)}
	to.make()
	daemon := to.start()
	at := fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", h.has.IP, kuboPort, strings.TrimSpace(h.has.Do(source.command("id", "-f", "<id>")...)))
	h.reads.Do(to.command("swarm", "connect", at)...)
	out := filepath.Join(h.reads.Dir, fmt.Sprint("got-", round))
	return toRead{
		before:  strings.Join(to.command("get", "--progress=false", "-o", out, h.shared), " ") + " >&2",
		options: []string{"-v", out + ":/v"},
		file:    "/v/" + name, sum: h.data.sum(h.file(round)),
		end: func() {
			daemon.End(syscall.SIGTERM)
			h.must(os.RemoveAll(out))
			h.must(removeAll(to.dir()))
		},
	}
}

// kuboOn is a Kubo repository of a host.
type kuboOn struct {
	*twoHosts
	host *nettest.Host
	name string
}

func (k kuboOn) dir() string { return filepath.Join(k.host.Dir, k.name) }

// make makes the repository, of a swarm with a key.
func (k kuboOn) make() {
	k.must(os.Mkdir(k.dir(), 0o755))
	i, err := initIPFS(k.ctx, k.plan.meter, k.plan.tools.ipfs, k.dir())
	k.must(err)
	key := namespace.SwarmKey{1}
	k.must(os.WriteFile(filepath.Join(i.repo, "swarm.key"), key.File(), 0o600))
	k.host.Do(k.command("config", "--json", "Addresses.Swarm", fmt.Sprintf(`["/ip4/%s/tcp/%d"]`, k.host.IP, kuboPort))...)
}

func (k kuboOn) command(args ...string) []string {
	return append([]string{"env", "IPFS_PATH=" + filepath.Join(k.dir(), "repo"), "IPFS_TELEMETRY=off", k.plan.tools.ipfs}, args...)
}

func (k kuboOn) start() *nettest.Process {
	p := k.host.Run(k.name, k.command("daemon")...)
	k.host.Sh("until [ -s " + filepath.Join(k.dir(), "repo", "api") + " ]; do sleep 0.02; done") // a command before that takes the repository
	return p
}
