package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/volary/volary/namespace"
	"github.com/volary/volary/snapshot/durable"
	"github.com/volary/volary/volume"
)

func volumeKeyCommand() *cli.Command {
	return &cli.Command{
		Name:        "key",
		Usage:       "write a volume's key to a file, and make a volume that has one",
		Action:      onlySubcommands("volume key"),
		Subcommands: []*cli.Command{volumeKeyExportCommand(), volumeKeyImportCommand()},
	}
}

func volumeKeyExportCommand() *cli.Command {
	return command(cli.Command{
		Name:      "export",
		Usage:     "print the key of a volume",
		ArgsUsage: "NAME",
		Description: "Whoever has the key can say where /ipns/ID is, the volume's name in IPFS, also in another namespace: see import.\n" +
			"Keep it as you keep a password. Only who owns the state may print it.",
		Flags:  []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write it to a new `FILE` that only its owner can read"}},
		Action: onHost(readOnly, exportKey),
	}, 1, 1)
}

type keyJSON struct {
	Name   string `json:"name"`
	Volume string `json:"volume"`
	Key    string `json:"key,omitempty"`
	File   string `json:"file,omitempty"`
}

func exportKey(c *cli.Context, host *openedHost) error {
	if c.IsSet("output") && c.String("output") == "" {
		return usagef("--output was given an empty argument, perhaps an unset variable")
	}
	name := c.Args().First()
	s, err := host.Heads.Signed(c.Context, name)
	if err != nil {
		return err
	}
	// The key itself never crosses the daemon's socket: it is made here, of the secret, which only its owner can read.
	ns, _, err := host.home.namespace()
	if err != nil {
		return err
	}
	b, err := ns.Verify(s.Binding)
	if err != nil {
		return err
	}
	key, err := ns.Key(b)
	if err != nil {
		return err
	}
	text, err := namespace.KeyText(key)
	if err != nil {
		return err
	}
	j := keyJSON{Name: s.Name, Volume: s.Volume, Key: text}
	if j.File = c.String("output"); j.File != "" {
		j.Key = ""
		return writeSecret(c, j.File, text, j)
	}
	return outputOf(c).line(j, "%s", text)
}

// writeSecret writes a line to a new file that only its owner can read; only as JSON it is said what was done.
func writeSecret(c *cli.Context, file, text string, done any) error {
	err := durable.CreateFile(file, []byte(text+"\n"), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s is there already", quote(file))
	}
	if err != nil {
		return err
	}
	return outputOf(c).object(done, func(io.Writer) {})
}

func volumeKeyImportCommand() *cli.Command {
	return command(cli.Command{
		Name:      "import",
		Usage:     "make a volume with a key",
		ArgsUsage: "NAME KEYFILE",
		Description: "KEYFILE is what export printed, - is standard input. The volume is /ipns/ID in IPFS, as the one whose key it was,\n" +
			"empty or with the files of a snapshot. All hosts of the namespace get the key, sealed. What two namespaces do to\n" +
			"volumes of one key they do not tell each other: let only one go on, from the other's last state:\n" +
			"`--from CID`.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "begin at the snapshot `REF`"},
			optionFlag,
		},
		Action: importKey,
	}, 2, 2)
}

func importKey(c *cli.Context) error {
	text, err := readSecret(c.Args().Get(1))
	if err != nil {
		return err
	}
	key, err := namespace.ParseKey(text)
	if err != nil {
		return usagef("%s: %v\nit is to be what `volary volume key export` printed", quote(c.Args().Get(1)), err)
	}
	return onHost(create, func(c *cli.Context, host *openedHost) error {
		ns, _, err := host.home.namespace()
		if err != nil {
			return err
		}
		id, sealed, err := ns.Seal(key)
		if err != nil {
			return err
		}
		return createVolume(c, host, &volume.Key{Volume: id.String(), Sealed: sealed})
	})(c)
}

// mostSecret is how long a file with a secret is at most.
const mostSecret = 4096

// readSecret reads a line from a file, or standard input if that is "-". A secret is never an argument: everybody on the
// machine sees those.
func readSecret(file string) (string, error) {
	if namespace.IsKey(file) || namespace.IsToken(file) {
		return "", usagef("what is secret is not to be an argument, which others on this machine can see\nput it into a file, or give - and write it to standard input")
	}
	in := os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, mostSecret+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", quote(file), err)
	}
	if len(b) > mostSecret {
		return "", usagef("%s is longer than %d bytes", quote(file), mostSecret)
	}
	return strings.TrimSpace(string(b)), nil
}
