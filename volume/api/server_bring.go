package api

import (
	"bufio"
	"errors"
	"time"

	"github.com/volary/volary/snapshot"
)

// bring gets blocks from elsewhere to where they are kept, and answers with their sizes: who wants them to be here need
// not be given them. It ends early where the server stops, which would wait for it otherwise.
func (s *Server) bring(c *call) error {
	b, cs, done, err := c.wanted()
	if err != nil {
		return err
	}
	defer done()
	out := s.writers.Get().(*bufio.Writer)
	defer s.writers.Put(out)
	out.Reset(c.w)
	defer out.Reset(nil)
	c.w.Header().Set("Content-Type", typeBytes)
	var answer []byte
	told := time.Now()
	for blk, err := range snapshot.GetMany(c.r.Context(), b, cs...) {
		if err == nil {
			answer = appendUvarint(appendUvarint(answer[:0], 0), len(blk.RawData()))
		} else if answer, err = c.appendError(answer[:0], err); err != nil {
			return err
		}
		if _, err := out.Write(answer); err != nil {
			return err
		}
		select {
		case <-s.stopping:
			return out.Flush()
		default:
		}
		if time.Since(told) < tellTime {
			continue
		}
		if err := errors.Join(out.Flush(), c.w.flush()); err != nil {
			return err
		}
		told = time.Now()
	}
	return out.Flush()
}
