package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	wrkRequests  = regexp.MustCompile(`(?m)^\s*(\d+) requests in`)
	wrkTrouble   = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
	h2loadResult = regexp.MustCompile(`requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored`)
)

// loader gives a proxy work for a while and returns how many requests were answered.
type loader func(b *bench, t target, d time.Duration) (requests int, err error)

// wrk keeps connections busy with one file, each with one request at a time.
func wrk(file string, connections int) loader {
	return func(b *bench, t target, d time.Duration) (int, error) {
		seconds := max(int(d.Seconds()), 1)
		args := []string{"-c", t.loadCores(), "wrk", "-t1", "-c", strconv.Itoa(connections), "-d", strconv.Itoa(seconds),
			"--timeout", "10s"}
		if t.feature != nil && t.feature.field != "" { // all proxies get it
			args = append(args, "-H", t.feature.field)
		}
		out, err := exec.CommandContext(b.ctx, "taskset", append(args, t.url+file)...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("wrk: %w\n%s", err, out)
		}
		if m := wrkTrouble.FindString(string(out)); m != "" {
			return 0, fmt.Errorf("wrk: %s", strings.TrimSpace(m))
		}
		m := wrkRequests.FindStringSubmatch(string(out))
		if m == nil {
			return 0, fmt.Errorf("wrk said\n%s", out)
		}
		return strconv.Atoi(m[1])
	}
}

// paced sends requests at a fixed rate, whether answers come or not (open loop).
func paced(file string, connections, perSecond int) loader {
	return func(b *bench, t target, d time.Duration) (int, error) {
		return b.h2load(t, d, "--h1", "-c", strconv.Itoa(connections), "--rps", strconv.Itoa(perSecond/connections), t.url+file)
	}
}

// streams keeps streams of connections busy over HTTP/2, each with one request at a time.
func streams(file string, connections, each int) loader {
	return func(b *bench, t target, d time.Duration) (int, error) {
		return b.h2load(t, d, "-c", strconv.Itoa(connections), "-m", strconv.Itoa(each), t.url+file)
	}
}

func (b *bench) h2load(t target, d time.Duration, args ...string) (int, error) {
	// Without a warm-up time h2load counts in whole seconds.
	args = append([]string{"-c", t.loadCores(), "h2load", "-t1", "-D", strconv.Itoa(max(int(d.Seconds()), 1))}, args...)
	var out []byte
	var err error
	for range 3 {
		// On a busy machine it now and then misses the end of its own time, and goes on for ever.
		ctx, cancel := context.WithTimeout(b.ctx, d+20*time.Second)
		out, err = exec.CommandContext(ctx, "taskset", args...).CombinedOutput()
		again := ctx.Err() != nil && b.ctx.Err() == nil
		if cancel(); !again {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("h2load: %w\n%s", err, out)
	}
	m := h2loadResult.FindStringSubmatch(string(out))
	if m == nil || m[3] != "0" || m[4] != "0" || !strings.Contains(string(out), "0 3xx, 0 4xx, 0 5xx") {
		return 0, fmt.Errorf("h2load to %s said\n%s", t.name(), out)
	}
	return strconv.Atoi(m[2])
}
