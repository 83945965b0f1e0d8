package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	chunk "github.com/ipfs/boxo/chunker"
)

// DefaultChunker is that of the profile unixfs-v1-2025.
const DefaultChunker = "size-1048576"

// chunker cuts content into the chunks that become blocks.
type chunker struct {
	name string
	size int64 // of every chunk but the last; zero if the content decides
}

func parseChunker(s string) (chunker, error) {
	if s == "" {
		s = DefaultChunker
	}
	c := chunker{name: s}
	kind, rest, _ := strings.Cut(s, "-")
	bad := func(err error) error {
		return fmt.Errorf("chunker %q: %w\nuse size-N, rabin-MIN-AVG-MAX or buzhash, with at most %d bytes a chunk",
			s, err, chunk.ChunkSizeLimit)
	}
	switch kind {
	case "size":
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil || n < 1 || n > int64(chunk.ChunkSizeLimit) || strconv.FormatInt(n, 10) != rest {
			return c, bad(errors.New("not a size in range"))
		}
		c.size = n
	case "rabin", "buzhash":
		if kind == "buzhash" && rest != "" {
			return c, bad(errors.New("buzhash has no parameters"))
		}
		if _, err := chunk.FromString(bytes.NewReader(nil), s); err != nil {
			return c, bad(err)
		}
	default:
		return c, bad(errors.New("unknown"))
	}
	return c, nil
}

// split calls fn with the chunks of what r reads. A chunk's bytes are fn's to keep.
func (c chunker) split(r io.Reader, fn func(data []byte) error) error {
	s, err := chunk.FromString(r, c.name)
	if err != nil {
		return err
	}
	for {
		data, err := s.NextBytes()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := fn(data); err != nil {
			return err
		}
	}
}

// CheckChunker says whether a chunker is one that [Options] can have. The empty one is.
func CheckChunker(s string) error {
	_, err := parseChunker(s)
	return err
}
