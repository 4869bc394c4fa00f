package main

import (
	"errors"
	"fmt"
	"time"
)

// work is what every proxy is given to do.
type work struct {
	name  string
	setup setup
	// load does it for a while and returns how many requests were answered.
	load func(b *bench, t target, d time.Duration) (requests int, err error)
}

// setup is how a proxy is started.
type setup struct {
	// routes is the number of prefix routes; the one in use is the last.
	routes int
	// accessLog writes one buffered line a request.
	accessLog bool
	// tls is TLS with clients, 1.3 where they can.
	tls bool
	// http2 is HTTP/2 with clients: by ALPN, or without TLS by prior knowledge.
	http2 bool
}

// target is a running proxy.
type target struct {
	peer
	process *process
	// url is where it is asked, up to the file's name.
	url string
}

func works() []work {
	one, many := setup{routes: 1}, setup{routes: 10_000}
	logged := setup{routes: 10_000, accessLog: true}
	secure := setup{routes: 10_000, tls: true}
	multiplexed, both := setup{routes: 10_000, http2: true}, setup{routes: 10_000, tls: true, http2: true}
	return []work{
		{"1 KiB, 64 connections, 1 route", one, wrk("1k", 64)},
		{"1 KiB, 64 connections", many, wrk("1k", 64)},
		{"1 KiB, 256 connections", many, wrk("1k", 256)},
		{"1 KiB, 64 connections, access log", logged, wrk("1k", 64)},
		{"1 KiB, 5,000 requests a second", many, paced("1k", 64, 5000)},
		{"100 KiB, 64 connections", many, wrk("100k", 64)},
		{"1 KiB over TLS, 64 connections", secure, wrk("1k", 64)},
		{"1 KiB over HTTP/2, 16 connections x 16 streams", multiplexed, streams("1k", 16, 16)},
		{"1 KiB over HTTP/2 and TLS, 16 connections x 16 streams", both, streams("1k", 16, 16)},
		{"full TLS handshakes, 1 KiB each", secure, handshakes("1k", 32)},
		{"10 MiB, 8 connections", many, wrk("10m", 8)},
	}
}

// measure gives a work to all peers and prints what it took.
func (b *bench) measure(w work) error {
	var targets []target
	defer func() {
		for _, t := range targets {
			t.process.stop()
		}
	}()
	for _, p := range b.peers() {
		t, err := b.start(p, w.setup)
		if missing := (*missingError)(nil); errors.As(err, &missing) {
			fmt.Printf("%s: left out: %v\n", p.name(), err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		targets = append(targets, t)
		if _, err := w.load(b, t, time.Second/2); err != nil { // connections, caches, pages
			return fmt.Errorf("%s: %w", p.name(), err)
		}
	}
	costs := make([][]float64, len(targets))
	for round := range b.rounds {
		for i := range targets {
			at := (i + round) % len(targets) // nobody is always after the same one
			t := targets[at]
			before, err := t.process.cpu()
			if err != nil {
				return err
			}
			n, err := w.load(b, t, b.seconds)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name(), err)
			}
			after, err := t.process.cpu()
			if err != nil {
				return err
			}
			costs[at] = append(costs[at], float64(after-before)/float64(time.Microsecond)/float64(n))
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
	report(w.name, targets, costs)
	return nil
}
