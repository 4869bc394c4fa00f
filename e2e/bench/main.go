// Command bench measures the gateway on the same machine in the same run beside nginx, HAProxy and h2o, from Debian,
// and Envoy, from PyPI.
//
// What counts is the CPU time of the proxy's processes per request, user and system, as the kernel accounts for it:
// wall times of shared machines are noise. Each proxy has one core, alone; the service behind it (nginx serving files)
// and the load generator have the other ones. Rounds go through the peers in turn, so that what disturbs the machine
// disturbs all; a ratio is the peer's CPU time per request divided by ours in the same round, so above 1 is better for
// us, and the median and the range of all rounds are shown.
//
// A peer that is not installed is left out, and said so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gateway.internal/e2e/storm"
)

type options struct {
	rounds  int
	seconds time.Duration
	only    string
	bin     string
	base    string
	alone   bool
	shake   string
	at      int
	// connections is how many rest when their memory is measured.
	connections int
	// requests is how many a soak sends.
	requests int
	// profiled is the file that a CPU profile is written to.
	profiled string
	// noLoops adds the gateway without event loops to the peers.
	noLoops bool
	// storm is how long one blows.
	storm time.Duration
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 9, "how often each work is given to each proxy")
	flag.DurationVar(&o.seconds, "time", time.Second, "how long each time: many short rounds are disturbed less unevenly than few long ones")
	flag.StringVar(&o.only, "only", "", "only works whose name contains this")
	flag.StringVar(&o.bin, "bin", filepath.Join("..", "bin"), "folder of the gateway's binaries")
	flag.StringVar(&o.base, "base", "", "folder of another build of the gateway, to compare with")
	flag.BoolVar(&o.noLoops, "no-loops", true,
		"compare with the same build without event loops too, over HTTP/1.1")
	flag.BoolVar(&o.alone, "alone", false, "without the other proxies")
	flag.IntVar(&o.connections, "connections", 8000, "how many connections rest, for the memory of one")
	flag.IntVar(&o.requests, "soak", 0, "only send so many requests of all kinds, and see whether memory stays flat")
	flag.DurationVar(&o.storm, "storm", 0, "only have a storm of clients and services that misbehave blow for so long, and see that their neighbours do not notice")
	flag.StringVar(&o.profiled, "profile", "",
		"only write a CPU profile of the gateway under all kinds of load to this file, -time of each")
	flag.StringVar(&o.shake, "handshakes", "", "only open connections to this URL, for the time, and print how many")
	flag.IntVar(&o.at, "at", 32, "how many at a time, with -handshakes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.shake != "" {
		return shakeHands(ctx, o.shake, o.seconds, o.at)
	}
	if o.storm > 0 {
		folder, err := os.MkdirTemp("", "gateway-storm")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		for _, cores := range []int{1, 2} {
			fmt.Printf("a node on %d of the cores:\n", cores)
			set := storm.Settings{Binary: filepath.Join(o.bin, "dataplane"), Folder: folder, Cores: cores, Duration: o.storm / 2, Stuck: []string{"one", "two"}, Out: os.Stdout}
			if err := storm.Run(ctx, set); err != nil {
				return err
			}
		}
		return nil
	}
	if runtime.NumCPU() < 2 {
		return errors.New("needs two cores: one for the proxy, the others for the load and the service")
	}
	dir, err := os.MkdirTemp("", "gateway-bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // the workers of nginx are another user
		return err
	}
	if o.connections, err = allowFiles(o.connections); err != nil {
		return err
	}
	b := &bench{ctx: ctx, dir: dir, options: o, leftOut: map[string]bool{}}
	defer b.stop()
	if err := errors.Join(b.makeCertificate(), b.startService()); err != nil {
		return err
	}
	if o.requests > 0 {
		return b.soak()
	}
	if o.profiled != "" {
		return b.profile(o.profiled)
	}
	fmt.Printf("%d rounds of %v; microseconds of the proxy's CPU time per request, median (lowest to highest)\n", o.rounds, o.seconds)
	for _, w := range works() {
		if !strings.Contains(w.name, o.only) {
			continue
		}
		f, err := w.measure(b)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		r := result{w, f}
		r.print()
		b.results = append(b.results, r)
	}
	table(b.results)
	return nil
}
