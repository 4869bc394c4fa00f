package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// rest is how long connections have had nothing to do when memory is looked at, at least.
	rest = 10 * time.Second
	// openers is how many connections are opened or asked at a time.
	openers = 32
	// sources is how many addresses connections come from: one has ports for 28,000.
	sources = 16
)

// idleMemory measures what a proxy holds for a connection that has had one request and rests: the growth of its memory,
// shared pages counted once, over many of them. There is one route, so that what compiling thousands has left behind
// gives no room to connections for nothing.
func idleMemory(s setup) func(*bench) (figures, error) {
	return func(b *bench) (figures, error) {
		f := figures{unit: "KiB", decimals: 1}
		for _, p := range b.peers() {
			if !p.can(s) {
				continue
			}
			t, err := b.start(p, s)
			if missing := (*missingError)(nil); errors.As(err, &missing) {
				b.leaveOut(p, err)
				continue
			}
			if err != nil {
				return f, fmt.Errorf("%s: %w", p.name(), err)
			}
			bytes, err := b.idle(t)
			t.process.stop()
			if err != nil {
				return f, fmt.Errorf("%s: %w", p.name(), err)
			}
			f.peers = append(f.peers, p.name())
			f.ofPeer = append(f.ofPeer, []float64{bytes / 1024})
		}
		return f, nil
	}
}

// idle returns the bytes of one idle connection.
func (b *bench) idle(t target) (float64, error) {
	first, err := openIdle(b.ctx, t, openers)
	closeIdle(first)
	if err != nil {
		return 0, err
	}
	before, err := b.settled(t.process)
	if err != nil {
		return 0, err
	}
	all, err := openIdle(b.ctx, t, b.connections)
	defer closeIdle(all)
	if err != nil {
		return 0, err
	}
	after, err := b.settled(t.process)
	if err != nil {
		return 0, err
	}
	// A connection that the proxy has closed would be a cheap one.
	if err := atATime(all, func(c *idleConn) error { return c.ask(t) }); err != nil {
		return 0, fmt.Errorf("a connection that rested: %w", err)
	}
	return float64(after-before) / float64(len(all)), nil
}

// settled waits until a process has rested and its memory stays within 1 % over a second, or 30 s, and returns its
// bytes.
func (b *bench) settled(p *process) (int64, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last int64
	for begun := time.Now(); ; {
		select {
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		case <-tick.C:
		}
		now, err := p.memory()
		if err != nil {
			return 0, err
		}
		rested := time.Since(begun)
		if rested >= 3*rest || rested >= rest && max(now, last)-min(now, last) < now/100 {
			return now, nil
		}
		last = now
	}
}

// memory returns the bytes that a process and its descendants hold; what they share counts once.
func (p *process) memory() (int64, error) {
	var total int64
	for _, pid := range p.pids() {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if err != nil {
			return 0, err
		}
		_, after, found := strings.Cut(string(text), "\nPss:")
		fields := strings.Fields(after)
		if !found || len(fields) == 0 {
			return 0, fmt.Errorf("process %d does not tell its memory", pid)
		}
		kib, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return 0, err
		}
		total += kib << 10
	}
	return total, nil
}

// idleConn is a connection of a client that asks rarely.
type idleConn struct {
	net.Conn
	r *bufio.Reader
}

func newIdleConn(c net.Conn) *idleConn { return &idleConn{c, bufio.NewReaderSize(c, 2048)} }

// openIdle opens connections and sends a request over each. Also with an error, it returns those that are open.
func openIdle(ctx context.Context, t target, n int) ([]*idleConn, error) {
	all := make([]*idleConn, n)
	for i := range all {
		all[i] = &idleConn{}
	}
	var next int
	var mu sync.Mutex
	return all, atATime(all, func(c *idleConn) error {
		mu.Lock()
		next++
		source := net.IPv4(127, 0, 0, byte(2+next%sources))
		mu.Unlock()
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: source}, Timeout: 10 * time.Second}).DialContext(ctx, "tcp", t.address)
		if err != nil {
			return err
		}
		if t.tls {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519}})
		}
		*c = *newIdleConn(conn)
		return c.ask(t)
	})
}

// ask sends a request and takes its answer.
func (c *idleConn) ask(t target) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET %s1k HTTP/1.1\r\nHost: %s\r\n\r\n", t.path(), t.address); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || res.Close {
		return fmt.Errorf("%s, closing: %v", res.Status, res.Close)
	}
	return nil
}

func closeIdle(all []*idleConn) {
	for _, c := range all {
		if c.Conn != nil {
			_ = c.Close()
		}
	}
}

// atATime does something with connections, some at a time, until one fails.
func atATime(all []*idleConn, do func(*idleConn) error) error {
	errs := make([]error, openers)
	var wg sync.WaitGroup
	for w := range openers {
		wg.Go(func() {
			for i := w; i < len(all) && errs[w] == nil; i += openers {
				errs[w] = do(all[i])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// allowFiles lets this process and those that it starts have as many files open as n idle connections need, and returns
// for how many connections there may be enough.
func allowFiles(n int) (int, error) {
	// HAProxy reckons with two for each connection; the others are to the service, and of the programs themselves.
	const each, others = 2, 6000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	need := uint64(each*n + others)
	raised := syscall.Rlimit{Cur: max(limit.Max, need), Max: max(limit.Max, need)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil { // above the hard limit only some users may
		return n, nil
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Max < others+each*100 {
		return 0, fmt.Errorf("this user may have %d open files, and %d are needed (ulimit -Hn)", limit.Max, need)
	}
	fewer := int(limit.Max-others) / each
	fmt.Printf("%d connections will rest, not %d: this user may have only %d open files (ulimit -Hn)\n", fewer, n, limit.Max)
	return fewer, nil
}
