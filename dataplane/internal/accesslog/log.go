// Package accesslog writes a line for every exchange that ended, as JSON, without making an exchange wait: lines are
// gathered in memory and written by a goroutine of the log's own. When the disk does not keep up, is full or is stuck,
// lines are dropped, and counted: a line is written whole or not at all. It knows what an exchange was, and nothing of
// how it came to be.
package accesslog

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// blockBytes is how much is written at once when there is much to write.
	blockBytes = 64 << 10
	// flushInterval is how long a line may wait to be written when there is little.
	flushInterval = time.Second
	// waitingBlocks is how many blocks may wait for the disk; what does not fit is dropped. It is 16 MiB, some 40,000
	// lines.
	waitingBlocks = 256
	// closeTimeout is how long Close waits for what is left to be written.
	closeTimeout = 5 * time.Second
	// hurryTimeout is how long it waits then for writes that were told to fail.
	hurryTimeout = time.Second
	// lineRoom is more than nearly all lines need: a block grows for one that needs more.
	lineRoom = 8 << 10
)

// Log is an access log. Its methods are safe for concurrent use.
type Log struct {
	log    *slog.Logger
	path   string
	query  bool
	shards []shard

	full    chan *block
	stop    chan struct{}
	done    chan struct{}
	reopen  chan struct{}
	dropped atomic.Uint64
	out     atomic.Pointer[file] // used by the writing goroutine
	writing atomic.Int64         // lines that are being written
	gaveUp  atomic.Bool          // Close did not wait any longer
	failing bool                 // the last write failed: said once
}

// shard is a block that lines are appended to. Exchanges of one connection use one shard, so processors rarely meet.
type shard struct {
	mu    sync.Mutex
	block *block
	clock clock
	_     [64]byte
}

type block struct{ lines []byte }

// The pool keeps blocks for the next lines.
var blocks = sync.Pool{New: func() any { return &block{make([]byte, 0, blockBytes+lineRoom)} }}

// Settings say where lines go.
type Settings struct {
	// Path is a file, which is appended to, or "stdout" or "stderr".
	Path string
	// Query has lines carry the query too. Queries are known to carry secrets.
	Query bool
	// Shards is how many exchanges can be logged at once without waiting for each other.
	Shards int
}

// Open begins to write.
func Open(s Settings, log *slog.Logger) (*Log, error) {
	out, err := open(s.Path)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	return start(s, log, out), nil
}

func start(s Settings, log *slog.Logger, out *file) *Log {
	l := &Log{
		log: log, path: s.Path, query: s.Query, shards: make([]shard, max(s.Shards, 1)),
		full: make(chan *block, waitingBlocks), stop: make(chan struct{}), done: make(chan struct{}), reopen: make(chan struct{}, 1),
	}
	l.out.Store(out)
	go l.run()
	return l
}

// Write appends a line for an exchange.
func (l *Log) Write(r *Record) {
	s := &l.shards[r.Exchange.Shard%uint32(len(l.shards))]
	if full := s.append(r, l.query); full != nil {
		l.hand(full)
	}
}

// append appends a line to the block, and returns that where it is full. Whatever panics, the others can go on.
func (s *shard) append(r *Record, query bool) (full *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.block == nil {
		s.block = blocks.Get().(*block)
	}
	s.block.lines = appendLine(s.block.lines, r, &s.clock, query)
	if len(s.block.lines) >= blockBytes {
		full, s.block = s.block, nil
	}
	return full
}

// hand gives a block to the writing goroutine, or drops it.
func (l *Log) hand(b *block) {
	select {
	case l.full <- b:
	default:
		l.drop(b)
	}
}

func (l *Log) drop(b *block) {
	l.dropped.Add(uint64(count(b.lines)))
	recycle(b)
}

func recycle(b *block) {
	b.lines = b.lines[:0]
	blocks.Put(b)
}

func (l *Log) run() {
	defer close(l.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case b := <-l.full:
			l.put(b)
		case <-tick.C:
			l.flush()
		case <-l.reopen:
			l.putAll()
			l.openAgain()
		case <-l.stop:
			l.putAll()
			lost, err := l.out.Load().close()
			l.dropped.Add(uint64(lost))
			if err != nil {
				l.log.Error("access log can't be closed", "path", l.path, "error", err.Error())
			}
			return
		}
	}
}

// putAll writes what has been logged so far.
func (l *Log) putAll() {
	for len(l.full) > 0 {
		l.put(<-l.full)
	}
	l.flush()
}

// flush writes what the shards have.
func (l *Log) flush() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		b := s.block
		s.block = nil
		s.mu.Unlock()
		if b != nil {
			l.put(b)
		}
	}
}

func (l *Log) put(b *block) {
	l.writing.Store(int64(count(b.lines)))
	lost, err := l.out.Load().write(b.lines)
	if l.gaveUp.Load() {
		return // Close has counted the lines
	}
	l.writing.Store(0)
	l.dropped.Add(uint64(lost))
	recycle(b)
	if err != nil && !l.failing {
		l.log.Error("access log can't be written; lines are dropped", "path", l.path, "error", err.Error())
	}
	l.failing = err != nil
}

func (l *Log) openAgain() {
	next, err := open(l.path)
	if err != nil {
		l.log.Error("access log can't be opened again; the open file stays in use", "path", l.path, "error", err.Error())
		return
	}
	last := l.out.Swap(next)
	l.dropped.Add(uint64(next.follow(last)))
	_, _ = last.close()
}

// Reopen opens the file anew, which somebody has moved away.
func (l *Log) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default:
	}
}

// Close writes what is left. It waits for that some seconds at most: what is not written by then, since nobody reads a
// pipe or a disk hangs, is counted as dropped, and said. Nothing may be written meanwhile or afterwards.
func (l *Log) Close() {
	before := l.dropped.Load()
	close(l.stop)
	if !l.ended(closeTimeout) {
		l.out.Load().hurry()
		if !l.ended(hurryTimeout) {
			l.giveUp()
		}
	}
	if lost := l.dropped.Load() - before; lost > 0 {
		l.log.Error("access log could not be written to its end; lines are lost", "path", l.path, "lines", lost)
	}
}

// ended waits for the writing goroutine and reports whether it has ended.
func (l *Log) ended(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-l.done:
		return true
	case <-timer.C:
		return false
	}
}

// giveUp counts what is left while a write does not return.
func (l *Log) giveUp() {
	l.gaveUp.Store(true)
	lost := int(l.writing.Load())
	for {
		select {
		case b := <-l.full:
			lost += count(b.lines)
			continue
		default:
		}
		break
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		if s.block != nil {
			lost += count(s.block.lines)
			s.block = nil
		}
		s.mu.Unlock()
	}
	l.dropped.Add(uint64(lost))
}

var droppedDesc = prometheus.NewDesc("gateway_access_log_dropped_total", "Lines of the access log that could not be written.", nil, nil)

// Describe implements prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) { ch <- droppedDesc }

// Collect implements prometheus.Collector.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(l.dropped.Load()))
}
