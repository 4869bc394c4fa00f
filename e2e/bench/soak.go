package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"gateway.internal/e2e/trend"
)

const (
	// steps is how often memory is looked at in a soak.
	steps = 100
	// warmUp is how many of them are not judged: buffers and pools find their size.
	warmUp = steps / 5
)

var h2loadAnswers = regexp.MustCompile(`status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)

// soak sends many requests of all kinds through one gateway, and looks at its memory and its open files between them.
// It fails when either grows.
func (b *bench) soak() error {
	g := gateway{called: "gateway", bin: b.bin}
	s, err := g.launchSoak(b)
	if err != nil {
		return err
	}
	defer s.process.stop()
	fmt.Printf("%d requests: 1 KiB and 100 KiB over HTTP/1.1, HTTP/2 and TLS, bodies, errors, new connections and such as break off\n\n%12s %10s %12s\n", b.requests, "requests", "RSS, MiB", "files open")
	var rss, files []float64
	for step := range steps {
		if err := s.step(b.ctx, max(b.requests/steps, 100)); err != nil {
			return err
		}
		bytes, err := s.process.resident()
		if err != nil {
			return err
		}
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.cmd.Process.Pid))
		if err != nil {
			return err
		}
		rss, files = append(rss, float64(bytes)/(1<<20)), append(files, float64(len(open)))
		if (step+1)%(steps/10) == 0 {
			fmt.Printf("%12d %10.1f %12d\n", (step+1)*max(b.requests/steps, 100), rss[step], len(open))
		}
	}
	fmt.Printf("\nafter the first %d %%:\n", 100*warmUp/steps)
	return errors.Join(judge("RSS, MiB", rss[warmUp:]), judge("files open", files[warmUp:]))
}

// judge says whether values rise.
func judge(what string, values []float64) error {
	l := trend.Of(values)
	fmt.Printf("%-10s %s\n", what, l)
	if l.Grows() {
		return errors.New(what + ": it grows")
	}
	return nil
}

// resident returns the bytes of a process that are in memory.
func (p *process) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// soaked is a gateway under a long load.
type soaked struct {
	process       *process
	plain, secure string
	// body is a file of 4 KiB.
	body string
}

// launchSoak starts a gateway with and without TLS, with one route to the service and one to where nobody listens.
func (g gateway) launchSoak(b *bench) (*soaked, error) {
	path := filepath.Join(g.bin, "dataplane")
	if !executable(path) {
		return nil, &missingError{path + " (make build)"}
	}
	ports := make([]string, 3)
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	host, port, _ := strings.Cut(b.backend, ":")
	config := filepath.Join(b.dir, "soak.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `services:
  - {name: files, endpoints: [{host: %s, port: %s}]}
  - {name: nobody, endpoints: [{host: 127.0.0.1, port: %s}]}
middleware:
  - {name: stamp, type: headers, order: 1, config: {response: {set: {X-Gateway: "yes"}}}}
pipelines:
  - {name: front, middleware_ids: [stamp]}
routes:
  - {name: files, path: /r0/*, service_id: files, pipeline_id: front}
  - {name: nobody, path: /nobody, service_id: nobody}
certificates:
  - {name: front, default: true, cert_pem: %q, key_pem: %q}
`, host, port, ports[2], b.certPEM, b.keyPEM), 0o644); err != nil {
		return nil, err
	}
	s := &soaked{plain: "127.0.0.1:" + ports[0], secure: "127.0.0.1:" + ports[1], body: filepath.Join(b.dir, "body")}
	if err := os.WriteFile(s.body, make([]byte, 4<<10), 0o644); err != nil {
		return nil, err
	}
	var err error
	if s.process, err = launch("0-0", []string{"GOMAXPROCS=1"}, path, "--config", config, "--http-addr", s.plain, "--https-addr", s.secure,
		"--status-addr", "127.0.0.1:0", "--data-dir", filepath.Join(b.dir, "soak")); err != nil {
		return nil, err
	}
	return s, s.process.await(s.plain)
}

// step sends n requests, all kinds at the same time.
func (s *soaked) step(ctx context.Context, n int) error {
	plain, secure := "http://"+s.plain, "https://"+s.secure
	kinds := []func() error{
		func() error { return h2loads(ctx, 2, n*40/100, "--h1", "-c64", plain+"/r0/1k") },
		func() error { return h2loads(ctx, 2, n*20/100, "-c16", "-m16", plain+"/r0/1k") },
		func() error { return h2loads(ctx, 2, n*10/100, "-c16", "-m16", secure+"/r0/1k") },
		func() error { return h2loads(ctx, 2, n*10/100, "--h1", "-c16", secure+"/r0/1k") },
		func() error { return h2loads(ctx, 2, n*2/100, "--h1", "-c8", plain+"/r0/100k") },
		func() error { return h2loads(ctx, 2, n*2/100, "-c4", "-m4", secure+"/r0/100k") },
		func() error { return h2loads(ctx, 2, n*5/100, "--h1", "-c8", "-d", s.body, plain+"/r0/1k") },
		func() error { return h2loads(ctx, 2, n*5/100, "-c4", "-m4", "-d", s.body, secure+"/r0/1k") },
		func() error { return h2loads(ctx, 4, n*2/100, "--h1", "-c4", plain+"/nowhere") },
		func() error { return h2loads(ctx, 5, n*2/100, "-c4", "-m4", plain+"/nobody") },
		func() error { return s.connections(ctx, n*2/100) },
	}
	errs := make([]error, len(kinds))
	var wg sync.WaitGroup
	for i, kind := range kinds {
		wg.Go(func() { errs[i] = kind() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// h2loads sends n requests that are to be answered with statuses of a class: 2, 4 or 5.
func h2loads(ctx context.Context, class, n int, args ...string) error {
	args = append([]string{"-c", setup{}.loadCores(), "h2load", "-t1", "-n", strconv.Itoa(max(n, 64))}, args...)
	out, err := exec.CommandContext(ctx, "taskset", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("h2load: %w\n%s", err, out)
	}
	m := h2loadAnswers.FindStringSubmatch(string(out))
	if m == nil || m[class-1] != strconv.Itoa(max(n, 64)) {
		return fmt.Errorf("h2load %s: not all were answered with %dxx:\n%s", strings.Join(args[4:], " "), class, out)
	}
	return nil
}

// connections opens n connections one after the other, every other one with TLS. Of four, two have one request; one
// breaks off in the middle of a head, and one before it has taken its answer.
func (s *soaked) connections(ctx context.Context, n int) error {
	for i := range max(n, 8) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.connection(i); err != nil {
			return fmt.Errorf("a new connection: %w", err)
		}
	}
	return nil
}

func (s *soaked) connection(i int) error {
	t := target{setup: setup{routes: single.routes, tls: i%2 == 1}, address: s.plain}
	if t.tls {
		t.address = s.secure
	}
	conn, err := net.DialTimeout("tcp", t.address, 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if t.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	switch i / 2 % 4 {
	case 0:
		_, err = fmt.Fprintf(conn, "GET /r0/1k HTTP/1.1\r\nHost: ")
	case 1:
		_, err = fmt.Fprintf(conn, "GET /r0/100k HTTP/1.1\r\nHost: gateway\r\n\r\n")
	default:
		err = newIdleConn(conn).ask(t)
	}
	return err
}
