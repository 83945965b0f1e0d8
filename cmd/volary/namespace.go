package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/snapshot/store"
)

const namespaceFile = "namespace"

// namespace returns what the host knows of its namespace, which it makes if it is in none.
func (h *home) namespace() (*namespace.Namespace, namespace.Swarm, error) {
	file := h.path(namespaceFile)
	// Looked for first: another process may make both meanwhile, the namespace before it.
	used := exists(h.path(headsFile)) || exists(h.path(outboxFile))
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && used {
		return nil, namespace.Swarm{}, fmt.Errorf("%s is lost, which had the secret of this host's namespace: %w\nput it back from a copy, or write into it what `volary token` prints on another host of the namespace;\nif there is none, remove %s and %s as well, and the host's volumes begin in a new one",
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
	ns, err := namespace.Open(namespace.NewSecret())
	if err != nil {
		return err
	}
	token, err := ns.Token(namespace.Swarm{Mode: namespace.SwarmDerived}, false)
	if err != nil {
		return err
	}
	return durable.CreateFile(file, []byte(token+"\n"), 0o600)
}

// settle writes what init was given. The namespace comes first: a host that is in one and has no state yet is known to
// be one whose init was cut.
func (h *home) settle(c *cli.Context) error {
	token := c.String("join")
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
	return usagef("`volary init --join` at %s was cut short\nrun it again with all that it was given, or remove %s to begin with a namespace of its own",
		h.dir, h.path(namespaceFile))
}

// checkInit refuses what init cannot carry out, before anything is made.
func checkInit(c *cli.Context) error {
	if c.IsSet("join") {
		if _, _, err := namespace.ParseToken(c.String("join")); err != nil {
			return usagef("--join: %v", err)
		}
	}
	conf, err := initConfig(c)
	if err != nil {
		return err
	}
	if err := conf.check(); err != nil {
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
			"Keep it as you keep a password. Only who owns the state may print it.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "read-only", Usage: "a token without the right to write"}},
		Action: printToken,
	}, 0, 0)
}

func printToken(c *cli.Context) error {
	h, err := openHome(c, true)
	if err != nil {
		return err
	}
	ns, swarm, err := h.namespace()
	if err != nil {
		return err
	}
	token, err := ns.Token(swarm, c.Bool("read-only"))
	if errors.Is(err, namespace.ErrReadOnly) {
		return usagef("this host may only read in its namespace: give --read-only")
	}
	if err != nil {
		return err
	}
	return outputOf(c).line(map[string]string{"token": token, "namespace": ns.ID()}, "%s", token)
}
