package api

import (
	"bufio"
	"encoding/json"
	"net/http"
)

// getMany answers a list of CIDs with what there is to say of each, in their order. It ends early once the
// answer is large enough: a caller who works on what it has got does not hold a turn meanwhile.
func (s *Server) getMany(c *call) error {
	b, err := c.blocks()
	if err != nil {
		return err
	}
	cs, err := c.cids()
	if err != nil {
		return err
	}
	done, err := c.transfer()
	if err != nil {
		return err
	}
	defer done()
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	out := s.writers.Get().(*bufio.Writer)
	defer s.writers.Put(out)
	out.Reset(c.w)
	defer out.Reset(nil)
	c.w.Header().Set("Content-Type", typeBytes)
	var header []byte
	for size := 0; len(cs) > 0 && size < gotBytes; cs = cs[1:] {
		data, err := getInto(c.r.Context(), b, cs[0], *buf)
		if err == nil {
			header = appendUvarint(appendUvarint(header[:0], 0), len(data))
			s.metrics.got(len(data))
		} else if header, err = c.appendError(header[:0], err); err != nil {
			return err
		}
		size += len(header) + len(data)
		if _, err := out.Write(header); err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	return out.Flush()
}

// appendError appends what is answered for a block that could not be had.
func (c *call) appendError(b []byte, err error) ([]byte, error) {
	status, j := c.server.errors.encode(c.explain(err))
	if status == http.StatusInternalServerError {
		c.logFailure(err)
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	return appendString(b, text), nil
}
