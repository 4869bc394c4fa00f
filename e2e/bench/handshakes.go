package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// handshakes opens connections one after the other, some at a time, each with a full handshake and one request. It is
// done by this program in a process of its own, since the usual load generators take sessions up again.
func handshakes(file string, at int) loader {
	return func(b *bench, t target, d time.Duration) (int, error) {
		self, err := os.Executable()
		if err != nil {
			return 0, err
		}
		out, err := exec.CommandContext(b.ctx, "taskset", "-c", t.loadCores(), self, "-handshakes", t.url+file, "-time", d.String(), "-at", strconv.Itoa(at)).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("handshakes: %w\n%s", err, out)
		}
		return strconv.Atoi(strings.TrimSpace(string(out)))
	}
}

// shakeHands is that process. It prints how many connections were served.
func shakeHands(ctx context.Context, url string, d time.Duration, at int) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}},
	}}
	until := time.Now().Add(d)
	var served atomic.Int64
	ended := make(chan error, at)
	for range at {
		go func() {
			for time.Now().Before(until) {
				if err := shakeHand(ctx, client, url); err != nil {
					ended <- err
					return
				}
				served.Add(1)
			}
			ended <- nil
		}()
	}
	for range at {
		if err := <-ended; err != nil {
			return err
		}
	}
	fmt.Println(served.Load())
	return nil
}

func shakeHand(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || res.TLS.DidResume {
		return fmt.Errorf("%s, resumed: %v", res.Status, res.TLS.DidResume)
	}
	return nil
}
