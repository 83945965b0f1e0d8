package importer

import (
	"cmp"
	"context"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/volary/volary/snapshot"
	"github.com/volary/volary/snapshot/unixfs"
)

// A task is a source of jobs: a directory, a batch of its files, or a large file. take is called with run.mu
// held; it returns the next job, and whether there are more.
type task interface {
	take() (job func(w *worker) error, more bool)
}

// run is one import. Workers take jobs from the task that was pushed last, so that the walk goes deep before
// it goes wide and few directories are in memory at a time.
type run struct {
	ctx      context.Context
	o        Options
	hooks    hooks
	chunker  chunker
	span     int64 // bytes of a file that are read in one job
	put      *batcher
	devices  *devices
	links    *linkTable
	notes    *notes
	fds      *descriptors
	excluded atomic.Uint64
	zero     zeroChunk
	root     *dir
	owner    int // whose files may be read without touching their access time; 0: all

	mu     sync.Mutex
	wake   *sync.Cond
	tasks  []task
	active int
	err    error

	statsMu    sync.Mutex
	stats      snapshot.Stats
	xattrsSeen bool
}

// worker is one of the goroutines of a run, with the memory it works in.
type worker struct {
	*run
	buf     []byte // for content: a span and a byte more
	scratch []byte // for names and attributes
	builder *unixfs.FileBuilder
}

const (
	minSpan     = 1 << 20
	scratchSize = 64 << 10
)

func newRun(ctx context.Context, b snapshot.Blocks, o Options, c chunker, h hooks) *run {
	r := &run{
		ctx: ctx, o: o, hooks: h, chunker: c, owner: os.Geteuid(),
		put:     newBatcher(b, o.Cache),
		devices: newDevices(o.Cache != nil, h.slack),
		links:   newLinkTable(),
		notes:   newNotes(),
		fds:     newDescriptors(),
		span:    minSpan,
	}
	if c.size > 0 {
		r.span = max(1, minSpan/c.size) * c.size
	}
	r.wake = sync.NewCond(&r.mu)
	return r
}

func (r *run) push(t task) {
	r.mu.Lock()
	r.tasks = append(r.tasks, t)
	r.mu.Unlock()
	r.wake.Broadcast()
}

func (r *run) fail(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.mu.Unlock()
	r.wake.Broadcast()
}

// work runs all tasks, and those they push, to their end or the first error.
func (r *run) work() error {
	defer context.AfterFunc(r.ctx, func() { r.fail(context.Cause(r.ctx)) })()
	var wg sync.WaitGroup
	for range r.o.Workers {
		wg.Go(func() {
			w := &worker{run: r, scratch: make([]byte, scratchSize), builder: unixfs.NewFileBuilder(r.put)}
			for {
				job := r.take()
				if job == nil {
					return
				}
				r.release(job(w))
			}
		})
	}
	wg.Wait()
	r.fds.closeAll()
	// The context may end now: that is noted meanwhile, or not yet.
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.err, context.Cause(r.ctx))
}

// take returns the next job, or nil when there is none and none will come.
func (r *run) take() func(*worker) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.tasks) == 0 && r.active > 0 && r.err == nil {
		r.wake.Wait()
	}
	if len(r.tasks) == 0 || r.err != nil {
		return nil
	}
	top := len(r.tasks) - 1
	job, more := r.tasks[top].take()
	if !more {
		r.tasks = slices.Delete(r.tasks, top, top+1)
	}
	r.active++
	return job
}

func (r *run) release(err error) {
	if err != nil {
		r.fail(err)
	}
	r.mu.Lock()
	r.active--
	idle := r.active == 0 && len(r.tasks) == 0
	r.mu.Unlock()
	if idle {
		r.wake.Broadcast()
	}
}

// content returns the worker's buffer for n bytes of content and one more, which shows that a file has grown.
func (w *worker) content(n int64) []byte {
	if int64(len(w.buf)) <= n {
		w.buf = make([]byte, max(n, min(w.span, 64<<10))+1)
	}
	return w.buf[:n+1]
}

// notes collects paths that the user should hear of.
type notes struct {
	mu sync.Mutex
	by map[note][]string
}

type note int

const (
	unsettled note = iota
	skipped
	uncaptured
)

func newNotes() *notes { return &notes{by: map[note][]string{}} }

func (n *notes) add(kind note, s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if kind != uncaptured || !slices.Contains(n.by[kind], s) {
		n.by[kind] = append(n.by[kind], s)
	}
}

func (n *notes) sorted(kind note) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.by[kind])
	return n.by[kind]
}

// descriptors are the open files that outlive a job, to be closed when the run fails.
type descriptors struct {
	mu   sync.Mutex
	open map[int]struct{}
}

func newDescriptors() *descriptors { return &descriptors{open: map[int]struct{}{}} }

func (d *descriptors) add(fd int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[fd] = struct{}{}
}

func (d *descriptors) close(fd int) {
	d.mu.Lock()
	delete(d.open, fd)
	d.mu.Unlock()
	unix.Close(fd)
}

func (d *descriptors) closeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for fd := range d.open {
		unix.Close(fd)
	}
	clear(d.open)
}
