package kubotest

import (
	"context"
	"io"
	"net"
	"sync"
)

// Break passes on what a server at an address answers to who connects to l, up to a number of bytes on each connection;
// then it ends the connection, or says nothing any more. The returned function ends it.
func Break(l net.Listener, to string, bytes int64, stall bool) func() {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()
				wg.Go(func() { _, _ = io.Copy(out, in); out.Close() })
				n, _ := io.Copy(in, io.LimitReader(out, bytes))
				if stall && n == bytes {
					<-ctx.Done()
				}
			})
		}
	})
	return func() { stop(); l.Close(); wg.Wait() }
}
