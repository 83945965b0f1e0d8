package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/head/table"
	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/snapshot/store"
	"github.com/volary/volary/volume"
	"github.com/volary/volary/volume/api"
	"github.com/volary/volary/volume/rotation"
)

func namespaceCommand() *cli.Command {
	return &cli.Command{
		Name:   "namespace",
		Usage:  "the secret that this host shares with others: keep it safe, put it back, change it",
		Action: onlySubcommands("namespace"),
		Subcommands: []*cli.Command{
			command(cli.Command{
				Name: "show", Usage: "say which namespace this host is in",
				Description: "Only who owns the state may ask. Nothing of what is printed is secret.",
				Action:      onHost(create, showNamespace),
			}, 0, 0),
			command(cli.Command{
				Name: "export", Usage: "print the token of the namespace, as `volary token` does",
				Description: "It is all that a new host needs, and what restore puts back. Keep it as you keep a password.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write it to a new `FILE` that only its owner can read"},
					&cli.BoolFlag{Name: "read-only", Usage: "a token without the right to write"},
				},
				Action: exportNamespace,
			}, 0, 0),
			restoreNamespaceCommand(), rotateCommand(),
		},
	}
}

type namespaceJSON struct {
	Namespace string `json:"namespace"`
	CanWrite  bool   `json:"can_write"`
	Swarm     string `json:"swarm"`
	Volumes   int    `json:"volumes"`
}

func showNamespace(c *cli.Context, host *openedHost) error {
	ns, swarm, err := host.home.namespace()
	if err != nil {
		return err
	}
	infos, err := host.Volumes.List(c.Context, volume.ListOptions{})
	if err != nil {
		return err
	}
	j := namespaceJSON{ns.ID(), ns.CanWrite(), string(swarm.Mode), len(infos)}
	return outputOf(c).object(j, func(w io.Writer) {
		rights := "this host may read and write"
		if !j.CanWrite {
			rights = "this host may only read"
		}
		t := columns(w)
		defer t.Flush()
		fmt.Fprintf(t, "namespace\t%s\nrights\t%s\nswarm key\t%s\nvolumes\t%d\n", j.Namespace, rights, j.Swarm, j.Volumes)
	})
}

func exportNamespace(c *cli.Context) error {
	if c.IsSet("output") && c.String("output") == "" {
		return usagef("--output was given an empty argument, perhaps an unset variable")
	}
	h, err := openHome(c, true)
	if err != nil {
		return err
	}
	ns, token, err := h.token(c.Bool("read-only"))
	if err != nil {
		return err
	}
	j := map[string]string{"namespace": ns.ID()}
	if file := c.String("output"); file != "" {
		j["file"] = file
		return writeSecret(c, file, token, j)
	}
	j["token"] = token
	return outputOf(c).line(j, "%s", token)
}

func restoreNamespaceCommand() *cli.Command {
	return command(cli.Command{
		Name:      "restore",
		Usage:     "put the namespace's secret back, or take over the one that it was changed to",
		ArgsUsage: "FILE",
		Description: "FILE is what export wrote, - is standard input. On a host that lost its secret, and on one whose namespace got\n" +
			"another secret on another host (`volary namespace rotate`): then --rotated has all of its volumes go over. No daemon\n" +
			"may run meanwhile, and no volume be mounted or have changes that are not committed.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "rotated", Usage: "the token is of the namespace that this host's was changed to"},
		},
		Action: restoreNamespace,
	}, 1, 1)
}

func restoreNamespace(c *cli.Context) error {
	token, err := readSecret(c.Args().First())
	if err != nil {
		return err
	}
	to, _, err := namespace.ParseToken(token)
	if err != nil {
		return usagef("%s: %v\nit is to be what `volary namespace export` or `volary token` printed", quote(c.Args().First()), err)
	}
	h, err := openHome(c, false)
	if err != nil {
		return err
	}
	m, err := h.openAlone(c.Context)
	if err != nil {
		return err
	}
	defer m.close()
	if h.rotating() {
		return hinted{errRotating, "finish that first: `volary namespace rotate`"}
	}
	of, err := h.inNamespace()
	if err != nil {
		return err
	}
	if of == "" || of == to.ID() {
		if err := m.putBack(to, token); err != nil {
			return err
		}
		return outputOf(c).line(map[string]string{"namespace": to.ID()}, "%s", to.ID())
	}
	if !c.Bool("rotated") {
		return usagef("the token is of namespace %s, this host is in another one, %s\nif that was changed to %s by `volary namespace rotate`, give --rotated; a host joins another namespace with a state of its own: `volary init --join`", to.ID(), of, to.ID())
	}
	if former, err := h.formerly(); err != nil || slices.Contains(former, to.ID()) {
		return cmp.Or(err, usagef("the token is of namespace %s, which this host's volumes went over from: who was evicted knows it\nchange the secret once more: `volary namespace rotate`", to.ID()))
	}
	if !to.CanWrite() {
		return usagef("a host that may only read takes nothing over\nmake its state anew: `volary init --join`")
	}
	return m.goOver(c, token, of)
}

// putBack writes the secret of the namespace that the state is of. Nobody loses the right to write by it.
func (m *move) putBack(to *namespace.Namespace, token string) error {
	if now, _, err := m.home.namespace(); err == nil && now.ID() == to.ID() && now.CanWrite() && !to.CanWrite() {
		return usagef("this host may write in namespace %s, and would lose that", to.ID())
	}
	return durable.WriteFile(m.home.path(namespaceFile), []byte(token+"\n"), 0o600)
}

func rotateCommand() *cli.Command {
	return command(cli.Command{
		Name:  "rotate",
		Usage: "give the namespace another secret, which evicts who is not told it",
		Description: "Who knows only the secret that there was can from then on neither connect to the hosts that know the new one nor\n" +
			"change anything there. What he has got before he has. Every volume gets another key, and so another /ipns/ name;\n" +
			"names, states, histories, tags and options stay. Then run `volary namespace restore FILE --rotated` on each\n" +
			"other host that is to stay, with what `volary namespace export -o FILE` writes here.\n\n" +
			"No daemon may run meanwhile, and no volume be mounted or have changes that are not committed. If it is\n" +
			"interrupted, the next command that opens the state, or the daemon, finishes it.",
		Flags:  []cli.Flag{forceFlag},
		Action: rotateNamespace,
	}, 0, 0)
}

func rotateNamespace(c *cli.Context) error {
	h, err := openHome(c, false)
	if err != nil {
		return err
	}
	m, err := h.openAlone(c.Context)
	if err != nil {
		return err
	}
	defer m.close()
	if h.rotating() {
		return m.report(c)
	}
	ns, swarm, err := h.namespace()
	if err != nil {
		return err
	}
	if !ns.CanWrite() {
		return usagef("this host may only read in its namespace: change the secret where it is known")
	}
	if of, err := h.namespaceOfHeads(); err != nil || of != "" && of != ns.ID() {
		return errors.Join(err, h.otherNamespace(fmt.Errorf("%w: of %s, not %s", table.ErrNamespace, of, ns.ID())))
	}
	if err := confirm(c, "Give the namespace another secret? Every other host has to be told."); err != nil {
		return err
	}
	token, err := newToken(swarm)
	if err != nil {
		return err
	}
	return m.goOver(c, token, ns.ID())
}

// goOver has the host's volumes go over to the namespace of a token, and says what became of them.
func (m *move) goOver(c *cli.Context, token, from string) error {
	if err := m.start(token, from); err != nil {
		return err
	}
	return m.report(c)
}

type rotatedJSON struct {
	Namespace string          `json:"namespace"`
	Before    string          `json:"before"`
	Volumes   []rotatedVolume `json:"volumes"`
}

type rotatedVolume struct {
	Name      string `json:"name"`
	Before    string `json:"before"` // IPNS names
	Volume    string `json:"volume"`
	Elsewhere bool   `json:"elsewhere,omitempty"` // its newest state is on other hosts
}

func (m *move) report(c *cli.Context) error {
	st, err := m.finish(c.Context, noStep)
	if err != nil {
		return hinted{err, "`volary namespace rotate` goes on where it stopped"}
	}
	ns, swarm, err := namespace.ParseToken(st.Token)
	if err != nil {
		return err
	}
	j := rotatedJSON{Namespace: ns.ID(), Before: st.From, Volumes: []rotatedVolume{}}
	for _, v := range st.Moved {
		if !v.Removed {
			j.Volumes = append(j.Volumes, rotatedVolume{v.Name, v.From, v.Key.Volume, v.Elsewhere})
		}
	}
	err = outputOf(c).object(j, func(w io.Writer) {
		fmt.Fprintf(w, "namespace %s, before %s\n", j.Namespace, j.Before)
		for _, v := range j.Volumes {
			fmt.Fprintf(w, "%s  /ipns/%s, before /ipns/%s\n", quote(v.Name), v.Volume, v.Before)
		}
	})
	m.hints(c, swarm, st.Moved)
	return err
}

// hints say what is left for people to do.
func (m *move) hints(c *cli.Context, swarm namespace.Swarm, moved []rotation.Moved) {
	w := c.App.ErrWriter
	fmt.Fprintln(w, "on each other host that is to stay: volary namespace restore FILE --rotated\nwith what is written here by: volary namespace export -o FILE")
	switch swarm.Mode {
	case namespace.SwarmGiven:
		fmt.Fprintln(w, "the swarm's key is not the namespace's to change: who had it can still connect, until it is changed as well, on all hosts and IPFS daemons of the swarm")
	case namespace.SwarmNone:
		fmt.Fprintln(w, "the swarm is not private: whoever reaches a host can still get blocks from it whose CIDs he knows")
	}
	for _, v := range moved {
		if v.Elsewhere {
			fmt.Fprintf(w, "the newest state of %s is not on this host: it goes over on a host that has it\n", quote(v.Name))
		}
	}
	if m.home.config.Kubo != "" {
		fmt.Fprintln(w, "where IPFS daemons or a cluster hold blocks, who could connect to those still can")
	}
}

// openAlone opens the state if nobody else has it.
func (h *home) openAlone(ctx context.Context) (*move, error) {
	host, err := api.Dial(ctx, h.path(socketName), api.DialOptions{Kinds: errorKinds})
	if err == nil {
		host.Close()
		return nil, hinted{fmt.Errorf("a daemon serves the state: %w", store.ErrLocked), "stop it, and run the command again"}
	}
	if !errors.Is(err, api.ErrNoDaemon) && !errors.Is(err, syscall.ENAMETOOLONG) {
		return nil, err
	}
	return h.openMove(ctx)
}

// inNamespace is the ID of the namespace that the host's volumes are of, or else the host; empty if neither is known.
func (h *home) inNamespace() (string, error) {
	of, err := h.namespaceOfHeads()
	if err != nil || of != "" || !exists(h.path(namespaceFile)) {
		return of, err
	}
	ns, _, err := h.namespace()
	if err != nil {
		return "", err
	}
	return ns.ID(), nil
}

// namespaceOfHeads is the ID of the namespace that the table of heads is of, empty if there is none.
func (h *home) namespaceOfHeads() (id string, err error) {
	if !exists(h.path(headsFile)) {
		return "", nil
	}
	t, err := table.Open(h.path(headsFile), nil)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return t.Namespace()
}
