package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/volary/volary/snapshot/importer"
	"github.com/volary/volary/snapshot/kubo"
	"github.com/volary/volary/snapshot/view"
	"github.com/volary/volary/volume"
)

// config is what config.toml can say. A key it does not have is the default; an unknown key is refused.
type config struct {
	Chunker     string `toml:"chunker" json:"chunker"`           // of snapshots, such as size-1048576
	SocketGroup string `toml:"socket_group" json:"socket_group"` // group that may use the daemon's socket; empty: the daemon's own
	IOTimeout   string `toml:"io_timeout" json:"io_timeout"`     // how long a read in a mount waits for data that nobody has
	Reserve     string `toml:"reserve" json:"reserve"`           // of the disk, for finishing commits when it is full

	Kubo            string   `toml:"kubo" json:"kubo"`                           // RPC of the daemon that has the blocks; empty: they are in the state directory
	KuboAuthFile    string   `toml:"kubo_auth_file" json:"kubo_auth_file"`       // file with its credentials
	FetchTimeout    string   `toml:"fetch_timeout" json:"fetch_timeout"`         // how long a daemon looks for a block at its peers
	CacheSize       string   `toml:"cache_size" json:"cache_size"`               // of blocks of a daemon that is not on this machine; 0: none
	Cluster         []string `toml:"cluster" json:"cluster"`                     // REST APIs of peers of the cluster that replicates; none: nobody does
	ClusterAuthFile string   `toml:"cluster_auth_file" json:"cluster_auth_file"` // file with user and password
	Replicas        string   `toml:"replicas" json:"replicas"`                   // how many there are to be, MIN-MAX; empty: the cluster's own default

	Listen []string `toml:"listen" json:"listen"` // where other hosts of the namespace reach this one; none: they do not
	Peers  []string `toml:"peers" json:"peers"`   // hosts of the namespace to be connected to

	Gateways []string `toml:"gateways" json:"gateways"` // trustless HTTP gateways that are asked for what no host has
	Gateway  string   `toml:"gateway" json:"gateway"`   // where this host is such a gateway, IP:PORT; empty: it is none

	Docker string `toml:"docker" json:"docker"` // socket of the volume driver for the Docker engine; empty: there is none
}

// configKeys are those of config.toml, in the order they are shown.
const configKeys = "chunker, socket_group, io_timeout, reserve, kubo, kubo_auth_file, fetch_timeout, cache_size, cluster, cluster_auth_file, replicas, listen, peers, gateways, gateway and docker"

func defaultConfig() config {
	return config{
		Chunker: importer.DefaultChunker, IOTimeout: view.DefaultIOTimeout.String(), Reserve: bytesText(volume.DefaultReserve),
		FetchTimeout: kubo.DefaultFetchTimeout.String(), CacheSize: "10GiB", Cluster: []string{},
		Listen: []string{}, Peers: []string{}, Gateways: []string{},
	}
}

// check says whether the values can be what is meant.
func (c config) check() error {
	if err := importer.CheckChunker(c.Chunker); err != nil {
		return err
	}
	for _, t := range []struct{ key, value string }{{"io_timeout", c.IOTimeout}, {"fetch_timeout", c.FetchTimeout}} {
		if d, err := time.ParseDuration(t.value); err != nil || d <= 0 {
			return fmt.Errorf("%s %q is no time such as 30s", t.key, t.value)
		}
	}
	if n, err := humanize.ParseBytes(c.Reserve); err != nil || n > math.MaxInt64 {
		return fmt.Errorf("reserve %q is no size such as 64MiB, or 0", c.Reserve)
	}
	if n, err := humanize.ParseBytes(c.CacheSize); err != nil || n > math.MaxInt64 {
		return fmt.Errorf("cache_size %q is no size such as 10GiB, or 0", c.CacheSize)
	}
	if _, _, err := c.replicas(); err != nil {
		return err
	}
	if slices.ContainsFunc(c.Cluster, func(u string) bool { return strings.TrimSpace(u) == "" }) {
		return errors.New("cluster has an empty address; [] is none")
	}
	if len(c.Cluster) > 0 && c.Kubo == "" {
		return errors.New("a cluster replicates what is in a Kubo daemon: give kubo as well")
	}
	if _, _, err := c.addresses(false); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(c.Gateway); err != nil && c.Gateway != "" {
		return fmt.Errorf("gateway %q is no address such as 127.0.0.1:8080", c.Gateway)
	}
	if c.Docker != "" && !filepath.IsAbs(c.Docker) {
		return fmt.Errorf("docker %q is no socket such as %s", c.Docker, dockerSocket)
	}
	_, err := newFar(c, nil)
	return err
}

// replicas are the least and the most that are wanted of a pin; both are 0 if the cluster is to choose.
func (c config) replicas() (least, most int, _ error) {
	if c.Replicas == "" {
		return 0, 0, nil
	}
	r, err := volume.ParseReplicas(c.Replicas)
	return r.Min, r.Max, err
}

// backendFlags choose where blocks and pins are, instead of config.toml.
func backendFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kubo", EnvVars: []string{"VOLARY_KUBO"}, Usage: "`ADDRESS` of the RPC of the Kubo daemon that has the blocks: a URL or multiaddress"},
		&cli.StringFlag{Name: "cluster", EnvVars: []string{"VOLARY_CLUSTER"}, Usage: "`URLS` of REST APIs of one IPFS Cluster, separated by commas"},
		&cli.StringFlag{Name: "replicas", EnvVars: []string{"VOLARY_REPLICAS"}, Usage: "how often the cluster is to hold what is kept: `MIN-MAX`"},
	}
}

// override takes what flags and environment say instead of the file. An empty variable says nothing.
func (c *config) override(from *cli.Context) {
	if from.IsSet("kubo") && !isEmpty("VOLARY_KUBO", from.String("kubo")) {
		c.Kubo = from.String("kubo")
	}
	if from.IsSet("cluster") && !isEmpty("VOLARY_CLUSTER", from.String("cluster")) {
		c.Cluster = nonEmpty(strings.Split(from.String("cluster"), ","))
	}
	// A verb may have a number of that name.
	for _, x := range from.Lineage() {
		if s, ok := x.Value("replicas").(string); ok {
			if x.IsSet("replicas") && !isEmpty("VOLARY_REPLICAS", s) {
				c.Replicas = s
			}
			break
		}
	}
}

// isEmpty reports whether a value may come from an environment variable that is empty.
func isEmpty(variable, value string) bool {
	_, is := os.LookupEnv(variable)
	return is && value == ""
}

func nonEmpty(texts []string) []string {
	out := []string{}
	for _, t := range texts {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, t)
		}
	}
	return out
}

func (h *home) readConfig(c *cli.Context) error {
	file := h.path("config.toml")
	h.config = defaultConfig()
	md, err := toml.DecodeFile(file, &h.config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usagef("%s: %v\nvalues are in quotes, like replicas = \"2-3\", and cluster, listen, peers and gateways are lists: cluster = [\"http://127.0.0.1:9094\"]", file, err)
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		return usagef("%s: unknown key %q\nknown are %s", file, unknown[0].String(), configKeys)
	}
	h.kuboOfFile = h.config.Kubo
	h.config.override(c)
	if err := h.config.check(); err != nil {
		return usagef("%s, flags and environment: %v", file, err)
	}
	return nil
}

// credentials reads a file with "bearer TOKEN" or "USER:PASSWORD" on its first line. Without a name there are none.
func credentials(file string) (token, user, password string, _ error) {
	if file == "" {
		return "", "", "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", "", "", fmt.Errorf("read credentials: %w", err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if token, is := strings.CutPrefix(line, "bearer "); is {
		return token, "", "", nil
	}
	user, password, is := strings.Cut(line, ":")
	if !is {
		return "", "", "", usagef("%s has neither \"bearer TOKEN\" nor \"USER:PASSWORD\"", file)
	}
	return "", user, password, nil
}

// text is the settings as a file that says the same.
func (c config) text() string {
	list := func(texts []string) string {
		quoted := make([]string, len(texts))
		for i, u := range texts {
			quoted[i] = strconv.Quote(u)
		}
		return strings.Join(quoted, ", ")
	}
	return fmt.Sprintf("chunker = %q\nsocket_group = %q\nio_timeout = %q\nreserve = %q\nkubo = %q\nkubo_auth_file = %q\nfetch_timeout = %q\ncache_size = %q\ncluster = [%s]\ncluster_auth_file = %q\nreplicas = %q\nlisten = [%s]\npeers = [%s]\ngateways = [%s]\ngateway = %q\ndocker = %q\n",
		c.Chunker, c.SocketGroup, c.IOTimeout, c.Reserve, c.Kubo, c.KuboAuthFile, c.FetchTimeout, c.CacheSize, list(c.Cluster), c.ClusterAuthFile, c.Replicas,
		list(c.Listen), list(c.Peers), list(c.Gateways), c.Gateway, c.Docker)
}
