package holder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// timeout is how long a holder may take to answer, or to start.
	timeout = 20 * time.Second
	// startPauses is more than the longest pause between two tries to start one, each of which is twice as long as that before.
	startPauses = time.Second
)

// Client puts files into a holder and gets them back. All methods are safe for concurrent use.
type Client struct {
	Socket string
	// Command starts a process that calls Hold for the socket, for when there is none, and writes a byte to its
	// descriptor 3 when it is ready or ends. It is not waited for.
	Command []string
}

// Put keeps files and some data under a name, instead of what was kept under it before. The caller may close its
// own once Put returns.
func (c *Client) Put(ctx context.Context, name string, data []byte, files ...*os.File) error {
	var copies held
	defer func() { copies.close() }()
	for _, f := range files {
		// The mount may end, and its server close the file, at any time.
		raw, err := f.SyscallConn()
		if err != nil {
			return fmt.Errorf("hold %s: %w", name, err)
		}
		var one held
		var dupErr error
		if err := raw.Control(func(fd uintptr) { one, dupErr = held{files: []int{int(fd)}}.dup() }); err != nil || dupErr != nil {
			return fmt.Errorf("hold %s: %w", name, errors.Join(err, dupErr))
		}
		copies.files = append(copies.files, one.files...)
	}
	_, err := c.do(ctx, request{Op: opPut, Name: name, Data: data}, true, nil, copies.files...)
	return err
}

// Get returns what is kept under a name. The error wraps [fs.ErrNotExist] if nothing is.
func (c *Client) Get(ctx context.Context, name string) ([]byte, []*os.File, error) {
	var files []*os.File
	r, err := c.do(ctx, request{Op: opGet, Name: name}, false, func(_ reply, fds []int) {
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), name))
		}
	})
	return r.Data, files, err
}

// Drop keeps what is under a name no longer. That there is nothing is no error.
func (c *Client) Drop(ctx context.Context, name string) error {
	_, err := c.do(ctx, request{Op: opDrop, Name: name}, false, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// List returns the names under which something is kept.
func (c *Client) List(ctx context.Context) ([]string, error) {
	var names []string
	_, err := c.do(ctx, request{Op: opList}, false, func(r reply, _ []int) {
		if r.More {
			names = append(names, r.Name)
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// do sends a request, starting a holder for it if asked to, and hands the replies to each. Without a holder the
// error wraps fs.ErrNotExist.
func (c *Client) do(ctx context.Context, q request, start bool, each func(reply, []int), files ...int) (reply, error) {
	q.Version = version
	r, err := c.try(ctx, q, each, files)
	// A holder of nothing may end just now, or another one be about to begin.
	for pause := time.Millisecond; start && errors.Is(err, errNone) && pause < startPauses; pause *= 2 {
		if err = c.start(ctx); err == nil {
			if r, err = c.try(ctx, q, each, files); errors.Is(err, errNone) {
				<-time.After(pause)
			}
		}
	}
	if err != nil {
		return r, fmt.Errorf("holder %s: %s: %w", c.Socket, q.Op, err)
	}
	return r, nil
}

// errNone says that no holder answered.
var errNone = fmt.Errorf("no holder is running: %w", fs.ErrNotExist)

func (c *Client) try(ctx context.Context, q request, each func(reply, []int), files []int) (reply, error) {
	conn, err := c.dial()
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(timeout); !ok || deadline.After(limit) {
		deadline = limit
	}
	conn.SetDeadline(deadline)
	if err := send(conn, q, files...); err != nil {
		return reply{}, ended(err)
	}
	for {
		var r reply
		fds, err := receive(conn, &r)
		switch {
		case err != nil:
			return r, ended(err)
		case r.Errno != 0:
			return r, fmt.Errorf("%s: %w", r.Error, syscall.Errno(r.Errno))
		}
		if each != nil {
			each(r, fds)
		} else {
			held{files: fds}.close()
		}
		if !r.More {
			return r, nil
		}
	}
}

// ended tells a holder that went away from other errors.
func ended(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() || errors.Is(err, syscall.EMSGSIZE) {
		return err
	}
	return fmt.Errorf("%w: %w", errNone, err)
}

func (c *Client) dial() (*net.UnixConn, error) {
	dir, err := os.Open(filepath.Dir(c.Socket))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: addressOf(dir, c.Socket), Net: "unixpacket"})
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, errNone
	}
	return conn, err
}

// start runs a holder in a session of its own, and returns once it can be asked.
func (c *Client) start(ctx context.Context) error {
	if len(c.Command) == 0 {
		return errNone
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start a holder: %w", err)
	}
	// It outlives this process, or is collected here when it ends.
	go cmd.Wait()
	ready.SetReadDeadline(time.Now().Add(timeout))
	if _, err := ready.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("start a holder: %w", err)
	}
	return ctx.Err()
}
