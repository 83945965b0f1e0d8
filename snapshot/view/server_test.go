package view

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// served returns a server of a mount whose kernel is the other end of a socket.
func served(t *testing.T, log *bytes.Buffer) (*Server, int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(pair[1]) })
	s := &Server{conn: Connection{Device: os.NewFile(uintptr(pair[0]), "device"), Table: table(t)}, fd: pair[0],
		shown: &View{memory: NewMemory()}, log: slog.New(slog.NewTextHandler(log, nil)), room: buffer}
	s.again = s.resend
	return s, pair[1]
}

func TestAServerWithoutMemoryGivesTheMountUp(t *testing.T) {
	var log bytes.Buffer
	s, kernel := served(t, &log)
	s.room = func() ([]byte, error) { return nil, syscall.ENOMEM }
	s.serve()
	s.Wait()
	if s.workers != 0 || s.idle != 0 {
		t.Errorf("%d workers, %d of them idle", s.workers, s.idle)
	}
	if n, err := unix.Read(kernel, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("the connection is open: read %d, %v", n, err)
	}
	if !strings.Contains(log.String(), syscall.ENOMEM.Error()) {
		t.Errorf("the log says %q", log.String())
	}
}

func TestARequestThatCannotBeLeftToTheNextServerIsInTheLog(t *testing.T) {
	var log bytes.Buffer
	s, _ := served(t, &log)
	w, err := newWorker(s)
	must(t, err)
	s.workers = 1
	must(t, unix.Shutdown(s.fd, unix.SHUT_WR))
	w.handBack(make([]byte, inHeader))
	w.release()
	if !strings.Contains(log.String(), "leave a request") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestARequestThatNobodyWillSendAgainIsAnswered(t *testing.T) {
	var log bytes.Buffer
	s, kernel := served(t, &log)
	s.again = func() error { return errNoResend }
	s.stopped = true
	s.serve()
	request := make([]byte, inHeader)
	binary.LittleEndian.PutUint64(request[8:], 42)
	_, err := unix.Write(kernel, request)
	must(t, err)
	answer := make([]byte, 100)
	n, err := unix.Read(kernel, answer)
	must(t, err)
	no := -int32(binary.LittleEndian.Uint32(answer[4:]))
	if n != outHeader || binary.LittleEndian.Uint64(answer[8:]) != 42 || syscall.Errno(no) != syscall.EIO {
		t.Errorf("%d bytes: %x, error %d", n, answer[:n], no)
	}
	s.Wait()
}
