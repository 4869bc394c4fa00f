package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// profile writes a CPU profile of the gateway under all kinds of load to a file. The Go compiler optimises the data
// plane by the one that is dataplane/cmd/dataplane/default.pgo.
func (b *bench) profile(file string) error {
	logged, secure := many, many
	logged.accessLog, secure.tls = true, true
	multiplexed, both := many, secure
	multiplexed.http2, both.http2 = true, true
	var parts []string
	for _, load := range []struct {
		setup  setup
		loader loader
	}{
		{single, wrk("1k", 64)},
		{logged, wrk("1k", 64)},
		{many, paced("1k", 64, 5000)},
		{many, wrk("100k", 64)},
		{secure, wrk("1k", 64)},
		{multiplexed, streams("1k", 16, 16)},
		{both, streams("1k", 16, 16)},
	} {
		part := filepath.Join(b.dir, fmt.Sprintf("profile%d", len(parts)))
		if err := b.profileOf(load.setup, load.loader, part); err != nil {
			return err
		}
		parts = append(parts, part)
	}
	// No symbol is looked up: the profiles have them.
	args := append([]string{"tool", "pprof", "-proto", "-symbolize=none", "-output", file}, parts...)
	merge := exec.CommandContext(b.ctx, "go", args...)
	if out, err := merge.CombinedOutput(); err != nil {
		return fmt.Errorf("go tool pprof: %w\n%s", err, out)
	}
	return nil
}

// profileOf writes a CPU profile of the gateway under one load.
func (b *bench) profileOf(s setup, load loader, file string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	status := "127.0.0.1:" + port
	t, err := b.start(gateway{called: "gateway", bin: b.bin, args: []string{"--status-addr", status, "--profiling"}}, s)
	if err != nil {
		return err
	}
	defer t.process.stop()
	if err := b.warm(t, load); err != nil {
		return err
	}
	taken := make(chan error, 1)
	go func() {
		url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", status, int(b.seconds.Seconds()))
		taken <- fetch(b.ctx, url, file)
	}()
	_, err = load(b, t, b.seconds+time.Second)
	return errors.Join(err, <-taken)
}

func fetch(ctx context.Context, url, file string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, body)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, body, 0o644)
}
