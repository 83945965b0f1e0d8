package holder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// version is that of the messages. A holder outlives the programs that use it.
const version = 1

const (
	opPut  = "put"
	opGet  = "get"
	opDrop = "drop"
	opList = "list"
)

const (
	maxMessage = 64 << 10 // bytes
	maxFiles   = 8        // descriptors in a message
)

// request and reply are each one packet of JSON, with descriptors beside it.
type request struct {
	Version int    `json:"version"`
	Op      string `json:"op"`
	Name    string `json:"name,omitempty"`
	Data    []byte `json:"data,omitempty"`
}

type reply struct {
	Error string `json:"error,omitempty"`
	Errno int    `json:"errno,omitempty"`
	Name  string `json:"name,omitempty"`
	Data  []byte `json:"data,omitempty"`
	More  bool   `json:"more,omitempty"` // another reply follows
}

func send(c *net.UnixConn, message any, files ...int) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > maxMessage || len(files) > maxFiles {
		return fmt.Errorf("message of %d bytes with %d files: %w", len(b), len(files), unix.EMSGSIZE)
	}
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	_, _, err = c.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads a message. The files are the caller's.
func receive(c *net.UnixConn, message any) (files []int, err error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, on, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	if on > 0 {
		if files, err = rights(oob[:on]); err != nil {
			return nil, err
		}
	}
	switch {
	case n == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("message cut off")
	default:
		err = json.Unmarshal(b[:n], message)
	}
	if err != nil {
		held{files: files}.close()
		return nil, err
	}
	return files, nil
}

func rights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []int
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		files = append(files, fds...)
	}
	return files, nil
}
