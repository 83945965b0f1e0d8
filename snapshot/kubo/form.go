package kubo

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
)

// form is a body of one file, as Kubo's commands take it. The transport may still read a body when it has given
// up the request, but then it closes it: only after wait does what is in it belong to the caller again.
type form struct {
	boundary string
	write    func(w io.Writer) error // the file

	open   *sync.WaitGroup
	closed func()
	read   *io.PipeReader // what Read has begun
}

func newForm(write func(w io.Writer) error) *form {
	f := &form{boundary: rand.Text(), write: write, open: new(sync.WaitGroup)}
	f.begin()
	return f
}

func (f *form) begin() {
	f.open.Add(1)
	f.closed = sync.OnceFunc(f.open.Done)
}

// again is the same body from its beginning.
func (f *form) again() *form {
	g := &form{boundary: f.boundary, write: f.write, open: f.open}
	g.begin()
	return g
}

func (f *form) wait() { f.open.Wait() }

func (f *form) contentType() string { return "multipart/form-data; boundary=" + f.boundary }

func (f *form) WriteTo(w io.Writer) (int64, error) {
	counted := &counter{w: w}
	buf := bufio.NewWriterSize(counted, pieceSize)
	_, err := fmt.Fprintf(buf, "--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"volary\"\r\n"+
		"Content-Type: application/octet-stream\r\n\r\n", f.boundary)
	if err == nil {
		err = f.write(buf)
	}
	if err == nil {
		_, err = fmt.Fprintf(buf, "\r\n--%s--\r\n", f.boundary)
	}
	if err != nil {
		return counted.n, err
	}
	return counted.n, buf.Flush()
}

// Read is for a transport that does not know WriteTo.
func (f *form) Read(p []byte) (int, error) {
	if f.read == nil {
		r, w := io.Pipe()
		f.read = r
		f.open.Go(func() {
			_, err := f.WriteTo(w)
			w.CloseWithError(err)
		})
	}
	return f.read.Read(p)
}

func (f *form) Close() error {
	if f.read != nil {
		f.read.Close()
	}
	f.closed()
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
