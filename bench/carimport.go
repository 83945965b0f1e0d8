package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// carStreams is how many requests carry blocks at a time, as many as volary has.
const carStreams = 4

// carImport is what a Kubo daemon itself takes for a snapshot: the same blocks, read from files that were made before,
// and the pin. Nobody who sends blocks to a daemon can be faster by much.
type carImport struct {
	*ipfs
	dir  string
	root string // of the files that were made; empty before
}

func openCarImport(ctx context.Context, m *meter, bin, dir string) (repository, error) {
	i, err := startIPFS(ctx, m, bin, dir)
	if err != nil {
		return nil, err
	}
	return &carImport{ipfs: i, dir: dir}, nil
}

// Snapshot makes the files when it is first called, which is not measured.
func (c *carImport) Snapshot(ctx context.Context, src string) (string, usage, error) {
	if c.root == "" {
		if err := c.prepare(ctx, src); err != nil {
			return "", usage{}, err
		}
	}
	api, err := c.api()
	if err != nil {
		return "", usage{}, err
	}
	words := strings.Split(api, "/") // /ip4/ADDRESS/tcp/PORT
	url := fmt.Sprintf("http://%s:%s/api/v0/", words[2], words[4])
	u, err := c.alone(func() error {
		errs := make([]error, carStreams)
		var wg sync.WaitGroup
		for n := range carStreams {
			wg.Go(func() { errs[n] = post(ctx, url+"dag/import?pin-roots=false", c.file(n)) })
		}
		wg.Wait()
		return errors.Join(append(errs, post(ctx, url+"pin/add?arg="+c.root, ""))...)
	})
	return c.root, u, err
}

func (c *carImport) file(n int) string { return filepath.Join(c.dir, fmt.Sprintf("%d.car", n)) }

// prepare has a repository of its own make the blocks, and exports them. It stays until all else of the contender goes:
// to delete many files would make the next ones slow.
func (c *carImport) prepare(ctx context.Context, src string) error {
	dir := filepath.Join(c.dir, "source")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	source, err := initIPFS(ctx, c.meter, c.bin, dir)
	if err != nil {
		return err
	}
	if c.root, _, err = source.Snapshot(ctx, src); err != nil {
		return err
	}
	cmd := command(ctx, source.env, c.bin, "dag", "export", "--progress=false", c.root)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = c.split(out)
	return errors.Join(err, cmd.Wait())
}

// split writes a CAR file's blocks to as many files as there are streams, in runs of 4 MiB.
func (c *carImport) split(car io.Reader) error {
	const run = 4 << 20
	in := bufio.NewReaderSize(car, 1<<20)
	head, err := section(in, nil)
	if err != nil {
		return err
	}
	var files [carStreams]*os.File
	for n := range files {
		if files[n], err = os.Create(c.file(n)); err != nil {
			return err
		}
		defer files[n].Close()
		if _, err := files[n].Write(head); err != nil {
			return err
		}
	}
	buf := head
	for done := 0; ; done += len(buf) {
		buf, err = section(in, buf)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			_, err = files[done/run%carStreams].Write(buf)
		}
		if err != nil {
			return err
		}
	}
}

// section reads one section of a CAR file into buf, with the length before it (CARv1).
func section(in *bufio.Reader, buf []byte) ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, err
	}
	buf = binary.AppendUvarint(buf[:0], n)
	from := len(buf)
	buf = append(buf, make([]byte, n)...)
	_, err = io.ReadFull(in, buf[from:])
	return buf, err
}

// post sends a file, or nothing, and reads the answer, the end of which may tell of an error.
func post(ctx context.Context, url, path string) error {
	body, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() { w.CloseWithError(writeForm(form, path)) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || res.Trailer.Get("X-Stream-Error") != "") {
		err = fmt.Errorf("%s: %s %s %s", url, res.Status, res.Trailer.Get("X-Stream-Error"), tail(string(said)))
	}
	return err
}

func writeForm(form *multipart.Writer, path string) error {
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		part, err := form.CreateFormFile("file", filepath.Base(path))
		if err != nil {
			return err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{part}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	return form.Close()
}
