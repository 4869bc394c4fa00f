package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// work is what every proxy is given to do.
type work struct {
	name    string
	bars    []bar
	measure func(b *bench) (figures, error)
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
	// feature is what the gateway does besides; nil: nothing.
	feature *feature
	// cores is how many the proxy has, the first ones; 0 is one.
	cores int
}

// single and many are set-ups by their number of routes.
var single, many = setup{routes: 1}, setup{routes: 10_000}

// path is what is asked for, up to the file's name: by the last route.
func (s setup) path() string { return fmt.Sprintf("/r%d/", s.routes-1) }

func (s setup) proxyCores() string { return "0-" + strconv.Itoa(max(s.cores, 1)-1) }

// loadCores are those of the load: not the proxy's, as far as the machine has others.
func (s setup) loadCores() string {
	if s.cores > maxCore() {
		return s.proxyCores()
	}
	return fmt.Sprintf("%d-%d", max(s.cores, 1), maxCore())
}

// target is a running proxy.
type target struct {
	peer
	setup
	process *process
	address string
	// url is where it is asked, up to the file's name.
	url string
}

func works() []work {
	logged, secure := many, many
	logged.accessLog, secure.tls = true, true
	multiplexed, both := many, secure
	multiplexed.http2, both.http2 = true, true
	with := func(name string, f *feature, bars ...bar) work {
		s := many
		s.feature, s.accessLog = f, f == chain
		return work{"1 KiB, 64 connections, " + name, bars, processorTime(s, wrk("1k", 64))}
	}
	return []work{
		{"1 KiB, 64 connections, 1 route", nil, processorTime(single, wrk("1k", 64))},
		{"1 KiB, 64 connections", ofBoth(1.15), processorTime(many, wrk("1k", 64))},
		{"1 KiB, 256 connections", ofBoth(1.25), processorTime(many, wrk("1k", 256))},
		{"1 KiB, 64 connections, access log", ofBoth(1.10), processorTime(logged, wrk("1k", 64))},
		with("resilience", resilience, bar{withoutFeature, 0.97}),
		with("rate limit", rateLimit, bar{withoutFeature, 0.97}),
		with("token", token, bar{withoutFeature, 0.94}),
		with("API key", apiKey, bar{withoutFeature, 0.96}),
		with("rules and expressions", rules, bar{withoutFeature, 0.90}),
		with("token, rules, limit, headers, access log", chain, bar{"nginx", 1.00}),
		{"1 KiB, 5,000 requests a second", []bar{{"nginx", 1.00}}, processorTime(many, paced("1k", 64, 5000))},
		{"100 KiB, 64 connections", []bar{{"nginx", 1.20}, {"HAProxy", 0.90}}, processorTime(many, wrk("100k", 64))},
		{"10 MiB, 8 connections", []bar{{"HAProxy", 1.00}}, processorTime(many, wrk("10m", 8))},
		{"1 KiB over TLS, 64 connections", ofBoth(1.15), processorTime(secure, wrk("1k", 64))},
		{"1 KiB over HTTP/2, 16 connections x 16 streams", []bar{{"nginx", 1.00}}, processorTime(multiplexed, streams("1k", 16, 16))},
		{"1 KiB over HTTP/2 and TLS, 16 connections x 16 streams", []bar{{"nginx", 1.00}}, processorTime(both, streams("1k", 16, 16))},
		{"full TLS handshakes, 1 KiB each", ofBoth(0.90), processorTime(secure, handshakes("1k", 32))},
		{"throughput per CPU second of two cores, in cores' worth", []bar{{"", 1.80}}, scaling(many, wrk("1k", 64))},
		{"memory per idle connection", []bar{{"", 4}}, idleMemory(single)},
		{"memory per idle connection, TLS", []bar{{"", 20}}, idleMemory(setup{routes: single.routes, tls: true})},
	}
}

// processorTime measures the CPU time per request.
func processorTime(s setup, load loader) func(*bench) (figures, error) {
	return func(b *bench) (figures, error) {
		targets, err := b.startAll(s)
		defer stopAll(targets)
		if err != nil {
			return figures{}, err
		}
		f := figures{unit: "us", decimals: 1, ofPeer: make([][]float64, len(targets))}
		for _, t := range targets {
			f.peers = append(f.peers, t.name())
			if err := b.warm(t, load); err != nil {
				return figures{}, err
			}
		}
		for round := range b.rounds {
			for i := range targets {
				at := (i + round) % len(targets) // nobody is always after the same one
				cost, err := b.cost(targets[at], load)
				if err != nil {
					return figures{}, err
				}
				f.ofPeer[at] = append(f.ofPeer[at], cost)
			}
		}
		return f, b.ctx.Err()
	}
}

// scaling measures what two cores do with a second of CPU time beside what one does with it: 2 is as much with each,
// less is what they lose to each other.
func scaling(s setup, load loader) func(*bench) (figures, error) {
	return func(b *bench) (figures, error) {
		single, err := b.startAll(s)
		defer stopAll(single)
		if err != nil {
			return figures{}, err
		}
		s.cores = 2
		double, err := b.startAll(s)
		defer stopAll(double)
		if err != nil {
			return figures{}, err
		}
		f := figures{more: true, decimals: 2, ofPeer: make([][]float64, len(single))}
		for i := range single {
			f.peers = append(f.peers, single[i].name())
			if err := errors.Join(b.warm(single[i], load), b.warm(double[i], load)); err != nil {
				return figures{}, err
			}
		}
		for round := range b.rounds {
			for i := range single {
				at := (i + round) % len(single)
				of1, err := b.cost(single[at], load)
				if err != nil {
					return figures{}, err
				}
				of2, err := b.cost(double[at], load)
				if err != nil {
					return figures{}, err
				}
				f.ofPeer[at] = append(f.ofPeer[at], 2*of1/of2)
			}
		}
		return f, b.ctx.Err()
	}
}

// startAll starts all peers that can do what a setup asks for. Also with an error, those that it returns are running.
func (b *bench) startAll(s setup) ([]target, error) {
	var targets []target
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
			return targets, fmt.Errorf("%s: %w", p.name(), err)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// leaveOut says once that a peer is missing.
func (b *bench) leaveOut(p peer, why error) {
	if !b.leftOut[p.name()] {
		b.leftOut[p.name()] = true
		fmt.Printf("%s is left out: %v\n", p.name(), why)
	}
}

func stopAll(targets []target) {
	for _, t := range targets {
		t.process.stop()
	}
}

// warm lets a proxy open its connections, fill its caches and touch its pages.
func (b *bench) warm(t target, load loader) error {
	if _, err := load(b, t, time.Second/2); err != nil {
		return fmt.Errorf("%s: %w", t.name(), err)
	}
	return nil
}

// cost gives a proxy work for one round and returns the microseconds of CPU time that a request took.
func (b *bench) cost(t target, load loader) (float64, error) {
	before, err := t.process.cpu()
	if err != nil {
		return 0, err
	}
	n, err := load(b, t, b.seconds)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", t.name(), err)
	}
	if n == 0 {
		return 0, fmt.Errorf("%s answered nothing in %v", t.name(), b.seconds)
	}
	after, err := t.process.cpu()
	if err != nil {
		return 0, err
	}
	return float64(after-before) / float64(time.Microsecond) / float64(n), nil
}
