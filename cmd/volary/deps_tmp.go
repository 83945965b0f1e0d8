package main

import (
	_ "github.com/cheggaaa/pb/v3"
	_ "github.com/cockroachdb/pebble/v2"
	_ "github.com/fxamacker/cbor/v2"
	_ "github.com/go-git/go-git/v5/plumbing/format/gitignore"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/ipfs/boxo/chunker"
	_ "github.com/ipfs/boxo/ipld/merkledag"
	_ "github.com/ipfs/boxo/ipld/unixfs"
	_ "github.com/ipfs/boxo/ipld/unixfs/io"
	_ "github.com/ipfs/go-block-format"
	_ "github.com/ipld/go-car/v2"
	_ "github.com/ipld/go-car/v2/storage"
	_ "github.com/multiformats/go-multihash"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/urfave/cli/v2"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "github.com/libp2p/go-libp2p/core/crypto"
	_ "github.com/libp2p/go-libp2p/core/peer"
)

func main() {}
