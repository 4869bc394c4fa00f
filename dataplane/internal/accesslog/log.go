// Package accesslog writes a line for every exchange that ended, as JSON, without making an exchange wait: lines are gathered in memory and
// written by a goroutine of the log's own. When the disk does not keep up, lines are dropped, and counted. It knows what an exchange
// was, and nothing of how it came to be.
package accesslog

import (
	"fmt"
	"io"
	"log/slog"
	"os"
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
	// waitingBlocks is how many blocks may wait for the disk; what does not fit is dropped. It is 16 MiB, some 40,000 lines.
	waitingBlocks = 256
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
	out     io.WriteCloser // the writing goroutine's
	failing bool           // the last write failed: said once
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
	l := &Log{
		log: log, path: s.Path, query: s.Query, shards: make([]shard, max(s.Shards, 1)),
		full: make(chan *block, waitingBlocks), stop: make(chan struct{}), done: make(chan struct{}), reopen: make(chan struct{}, 1),
	}
	var err error
	if l.out, err = open(s.Path); err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	go l.run()
	return l, nil
}

func open(path string) (io.WriteCloser, error) {
	switch path {
	case "stdout":
		return keepOpen{os.Stdout}, nil
	case "stderr":
		return keepOpen{os.Stderr}, nil
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
}

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// Write appends a line for an exchange.
func (l *Log) Write(r *Record) {
	s := &l.shards[r.Exchange.Shard%uint32(len(l.shards))]
	s.mu.Lock()
	if s.block == nil {
		s.block = blocks.Get().(*block)
	}
	s.block.lines = appendLine(s.block.lines, r, &s.clock, l.query)
	var ready *block
	if len(s.block.lines) >= blockBytes {
		ready, s.block = s.block, nil
	}
	s.mu.Unlock()
	if ready != nil {
		l.hand(ready)
	}
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
	n := uint64(0)
	for _, c := range b.lines {
		if c == '\n' {
			n++
		}
	}
	l.dropped.Add(n)
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
			l.flush()
			l.openAgain()
		case <-l.stop:
			for len(l.full) > 0 {
				l.put(<-l.full)
			}
			l.flush()
			if err := l.out.Close(); err != nil {
				l.log.Error("access log can't be closed", "path", l.path, "error", err.Error())
			}
			return
		}
	}
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
	_, err := l.out.Write(b.lines)
	if err == nil {
		l.failing = false
		recycle(b)
		return
	}
	if !l.failing {
		l.log.Error("access log can't be written; lines are dropped", "path", l.path, "error", err.Error())
	}
	l.failing = true
	l.drop(b)
}

func (l *Log) openAgain() {
	next, err := open(l.path)
	if err != nil {
		l.log.Error("access log can't be opened again; the open file stays in use", "path", l.path, "error", err.Error())
		return
	}
	_ = l.out.Close()
	l.out = next
}

// Reopen opens the file anew, which somebody has moved away.
func (l *Log) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default:
	}
}

// Close writes what is left. Nothing may be written meanwhile or afterwards.
func (l *Log) Close() {
	close(l.stop)
	<-l.done
}

var droppedDesc = prometheus.NewDesc("gateway_access_log_dropped_total", "Lines of the access log that could not be written.", nil, nil)

// Describe implements prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) { ch <- droppedDesc }

// Collect implements prometheus.Collector.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(l.dropped.Load()))
}
