package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/p2p"
	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume/api"
)

const namespaceFile = "namespace"

// namespace returns what the host knows of its namespace, which it makes if it is in none.
func (h *home) namespace() (*namespace.Namespace, namespace.Swarm, error) {
	file := h.path(namespaceFile)
	// Looked for first: another process may make both meanwhile, the namespace before it.
	used := exists(h.path(headsFile)) || exists(h.path(outboxFile))
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && used {
		return nil, namespace.Swarm{}, fmt.Errorf("%s is lost, which had the secret of this host's namespace: %w\nput it back from a copy, or with what `volary token` prints on another host of the namespace: `volary namespace restore`;\nif there is none, remove %s and %s as well, and the host's volumes begin in a new one",
			file, store.ErrCorrupt, headsFile, outboxFile)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// Of several processes at once, all take what the first has made.
		if err = newNamespace(file); err == nil || errors.Is(err, fs.ErrExist) {
			b, err = os.ReadFile(file)
		}
	}
	if err != nil {
		return nil, namespace.Swarm{}, fmt.Errorf("read namespace: %w", err)
	}
	ns, swarm, err := namespace.ParseToken(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, swarm, fmt.Errorf("%s: %w: %w", file, err, store.ErrCorrupt)
	}
	return ns, swarm, nil
}

func newNamespace(file string) error {
	token, err := newToken(namespace.Swarm{Mode: namespace.SwarmDerived})
	if err != nil {
		return err
	}
	return durable.CreateFile(file, []byte(token+"\n"), 0o600)
}

// newToken makes a namespace.
func newToken(swarm namespace.Swarm) (string, error) {
	ns, err := namespace.Open(namespace.NewSecret())
	if err != nil {
		return "", err
	}
	return ns.Token(swarm, false)
}

// initToken is the token of the namespace that init was given, or makes by what it was given; empty if it may be any.
func initToken(c *cli.Context) (string, error) {
	if c.String("join") != "" || c.String("swarm-key") == "" {
		return c.String("join"), nil
	}
	swarm, err := initSwarm(c)
	if err != nil {
		return "", err
	}
	return newToken(swarm)
}

// initSwarm is the swarm of the namespace that init joins or makes.
func initSwarm(c *cli.Context) (namespace.Swarm, error) {
	file := c.String("swarm-key")
	switch {
	case c.IsSet("join") && c.IsSet("swarm-key"):
		return namespace.Swarm{}, usagef("--swarm-key: the token says which swarm it is")
	case c.IsSet("join"):
		_, swarm, err := namespace.ParseToken(c.String("join"))
		if err != nil {
			return swarm, usagef("--join: %v\nit is to be what `volary token` prints on a host of the namespace", err)
		}
		return swarm, nil
	case !c.IsSet("swarm-key"):
		return namespace.Swarm{Mode: namespace.SwarmDerived}, nil
	case file == "none":
		return namespace.Swarm{Mode: namespace.SwarmNone}, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return namespace.Swarm{}, usagef("--swarm-key: %v", err)
	}
	key, err := namespace.ParseSwarmKey(b)
	if err != nil {
		return namespace.Swarm{}, usagef("--swarm-key: %s: %v\nit is to be a swarm.key file as Kubo has it, or `none`", file, err)
	}
	return namespace.Swarm{Mode: namespace.SwarmGiven, Key: key}, nil
}

// settle writes what init was given. The namespace comes first: a host that is in one and has no state yet is known to
// be one whose init was cut.
func (h *home) settle(c *cli.Context) error {
	token, err := initToken(c)
	if err != nil {
		return err
	}
	if token == "" {
		if err := h.checkUncut(); err != nil {
			return err
		}
	} else if err := durable.WriteFile(h.path(namespaceFile), []byte(token+"\n"), 0o600); err != nil {
		return err
	}
	return h.writeConfig(c)
}

// checkUncut refuses to begin without what an init that was cut had been given.
func (h *home) checkUncut() error {
	if !exists(h.path(namespaceFile)) {
		return nil
	}
	return usagef("`volary init` at %s was cut short\nrun it again with all that it was given, or remove %s to begin with a namespace of its own",
		h.dir, h.path(namespaceFile))
}

// checkInit refuses what init cannot carry out, before anything is made.
func checkInit(c *cli.Context) error {
	swarm, err := initSwarm(c)
	if err != nil {
		return err
	}
	conf, err := initConfig(c)
	if err != nil {
		return err
	}
	if err := conf.check(); err != nil {
		return usageError{err.Error()}
	}
	if _, _, err := conf.addresses(swarm.Mode != namespace.SwarmNone); err != nil {
		return usageError{err.Error()}
	}
	_, _, _, err = credentials(conf.KuboAuthFile)
	if err == nil {
		_, _, _, err = credentials(conf.ClusterAuthFile)
	}
	return err
}

// initConfig is the settings that init was given.
func initConfig(c *cli.Context) (config, error) {
	conf := defaultConfig()
	conf.override(c)
	if chunker := c.String("chunker"); chunker != "" {
		conf.Chunker = chunker
	}
	conf.Docker = c.String("docker")
	conf.Listen = append(conf.Listen, c.StringSlice("listen")...)
	conf.Peers = append(conf.Peers, c.StringSlice("peer")...)
	for name, to := range map[string]*string{"kubo-auth-file": &conf.KuboAuthFile, "cluster-auth-file": &conf.ClusterAuthFile} {
		if c.String(name) == "" {
			continue
		}
		path, err := filepath.Abs(c.String(name))
		if err != nil {
			return conf, err
		}
		*to = path
	}
	return conf, nil
}

// writeConfig writes the settings that init was given, if there are any.
func (h *home) writeConfig(c *cli.Context) error {
	conf, err := initConfig(c)
	if err != nil {
		return err
	}
	h.config = conf
	if conf.text() == defaultConfig().text() {
		return nil
	}
	return durable.WriteFile(h.path("config.toml"), []byte(conf.text()), 0o644)
}

func tokenCommand() *cli.Command {
	return command(cli.Command{
		Name:  "token",
		Usage: "print what lets another host into this one's namespace",
		Description: "Whoever has the token can write in the namespace, with --read-only only read: `volary init --join TOKEN`.\n" +
			"Keep it as you keep a password. Only who owns the state may print it. If other hosts can reach this one, the\n" +
			"whole command to be run there is on standard error.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "read-only", Usage: "a token without the right to write"}},
		Action: printToken,
	}, 0, 0)
}

func printToken(c *cli.Context) error {
	h, err := openHome(c, true)
	if err != nil {
		return err
	}
	ns, token, err := h.token(c.Bool("read-only"))
	if err != nil {
		return err
	}
	if addrs := h.reachedAt(c.Context); len(addrs) > 0 {
		fmt.Fprintln(c.App.ErrWriter, "on the other host: volary init --join "+token+" --peer "+strings.Join(addrs, " --peer "))
	}
	return outputOf(c).line(map[string]string{"token": token, "namespace": ns.ID()}, "%s", token)
}

// token is that of the namespace.
func (h *home) token(readOnly bool) (*namespace.Namespace, string, error) {
	if h.rotating() {
		return nil, "", hinted{errRotating, "go on with it, so that nobody is given the secret that was: `volary namespace rotate`"}
	}
	ns, swarm, err := h.namespace()
	if err != nil {
		return nil, "", err
	}
	token, err := ns.Token(swarm, readOnly)
	if errors.Is(err, namespace.ErrReadOnly) {
		err = usagef("this host may only read in its namespace: give --read-only")
	}
	return ns, token, err
}

// mostAddresses of a host are in a command for people.
const mostAddresses = 4

// reachedAt is where other hosts reach this one, as far as that is known: by the daemon, or else the settings.
func (h *home) reachedAt(ctx context.Context) []string {
	if len(h.config.Listen) == 0 {
		return nil
	}
	var addrs []string
	if host, err := api.Dial(ctx, h.path(socketName), api.DialOptions{Kinds: errorKinds}); err == nil {
		defer host.Close()
		if st, err := host.Network.State(ctx); err == nil {
			addrs = st.Addrs
		}
	} else {
		addrs = h.listensAt()
	}
	return addrs[:min(len(addrs), mostAddresses)]
}

// listensAt is where the settings have this host listen, if they say it exactly.
func (h *home) listensAt() (out []string) {
	_, swarm, err := h.namespace()
	if err != nil {
		return nil
	}
	listen, _, err := h.config.addresses(swarm.Mode != namespace.SwarmNone)
	id, err2 := h.peerID()
	if err != nil || err2 != nil {
		return nil
	}
	for _, a := range listen {
		if p2p.IsExact(a) {
			out = append(out, a.String()+"/p2p/"+id)
		}
	}
	return out
}
