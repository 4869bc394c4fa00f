package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/dataplane/internal/proxy"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/status"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/observe"
)

type options struct {
	httpAddr, statusAddr, dataDir string
	config                        string
	controlPlane                  []string
	nodeID, group                 string
	labels                        map[string]string
	joinTokenFile                 string
	drainTimeout                  time.Duration
	logLevel, logFormat           string
	profiling                     bool
	limits                        http1.Limits
}

func (o *options) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.httpAddr, "http-addr", ":8080", "address for proxied HTTP/1.1")
	f.StringVar(&o.statusAddr, "status-addr", "127.0.0.1:8081", "address of /metrics, /healthz and /readyz")
	f.StringVar(&o.dataDir, "data-dir", "./data/dataplane", "folder of the last good snapshot and the node's identity")
	f.StringVar(&o.config, "config", "", "file or folder to follow instead of a control plane")
	f.StringSliceVar(&o.controlPlane, "control-plane", nil, "stream addresses of control planes, HOST:PORT[,HOST:PORT]")
	f.StringVar(&o.nodeID, "node-id", "", "id in the fleet; empty: made once and kept in the data folder")
	f.StringVar(&o.group, "group", "", "group for rollouts")
	f.StringToStringVar(&o.labels, "labels", nil, "labels, key=value[,key=value]")
	f.StringVar(&o.joinTokenFile, "join-token-file", "", "file with the join token; GATEWAY_JOIN_TOKEN in the environment goes first")
	f.DurationVar(&o.drainTimeout, "drain-timeout", 30*time.Second, "how long exchanges may go on after SIGTERM")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&o.profiling, "profiling", false, "serve /debug/pprof/ on the status address")
	o.limits = http1.DefaultLimits()
	f.IntVar(&o.limits.MaxHeadBytes, "max-header-bytes", o.limits.MaxHeadBytes, "largest request head, up to 65536")
	f.IntVar(&o.limits.MaxFields, "max-header-fields", o.limits.MaxFields, "largest number of request header fields")
	f.DurationVar(&o.limits.HeadTimeout, "header-timeout", o.limits.HeadTimeout, "longest from a request's first byte to the end of its head")
	f.DurationVar(&o.limits.IdleTimeout, "idle-timeout", o.limits.IdleTimeout, "how long a client connection may wait for a request")
	f.DurationVar(&o.limits.BodyTimeout, "body-timeout", o.limits.BodyTimeout, "longest wait for more of a request's body")
	f.DurationVar(&o.limits.WriteTimeout, "write-timeout", o.limits.WriteTimeout, "longest that a client may take nothing of a response")
}

func (o *options) check() error {
	switch {
	case (o.config == "") == (len(o.controlPlane) == 0):
		return errors.New("one of --config PATH and --control-plane HOST:PORT is required")
	case o.limits.MaxHeadBytes < 512 || o.limits.MaxHeadBytes > 64<<10:
		return fmt.Errorf("--max-header-bytes %d: has to be from 512 to 65536", o.limits.MaxHeadBytes)
	case o.limits.MaxFields < 1 || o.limits.MaxFields > 1000:
		return fmt.Errorf("--max-header-fields %d: has to be from 1 to 1000", o.limits.MaxFields)
	}
	for flag, d := range map[string]time.Duration{
		"header-timeout": o.limits.HeadTimeout, "idle-timeout": o.limits.IdleTimeout, "body-timeout": o.limits.BodyTimeout,
		"write-timeout": o.limits.WriteTimeout, "drain-timeout": o.drainTimeout,
	} {
		if d <= 0 {
			return fmt.Errorf("--%s %s: has to be above 0", flag, d)
		}
	}
	return nil
}

func run(ctx context.Context, o *options) error {
	if err := o.check(); err != nil {
		return err
	}
	log, err := observe.Logger(os.Stderr, o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	registry := observe.Registry()
	counters := telemetry.New(4 * goruntime.GOMAXPROCS(0))
	services := upstream.NewRegistry(log)
	defer services.Close()
	node := runtime.New(log, services, counters)
	registry.MustRegister(counters, services, node)

	stop, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	following, err := o.follow(stop, log, node)
	if err != nil {
		return err
	}
	defer following()

	var draining atomic.Bool
	statusServer, err := serveStatus(o, log, status.Options{Registry: registry, Node: node, Profiling: o.profiling, NotReady: func() string {
		if draining.Load() {
			return "the node is draining"
		}
		return ""
	}})
	if err != nil {
		return err
	}
	defer statusServer.Close()
	server := http1.NewServer(o.limits, proxy.New(node, counters))
	ln, err := listener.Listen(log, o.httpAddr, server, counters)
	if err != nil {
		return err
	}
	log.Info("data plane ready to serve", "http", ln.Addr().String(), "status", o.statusAddr, "version", observe.Version())
	go ln.Serve()
	<-stop.Done()

	draining.Store(true)
	log.Info("draining", "connections", server.Active(), "timeout", o.drainTimeout.String())
	ln.Close()
	late := make(chan struct{})
	timer := time.AfterFunc(o.drainTimeout, func() { close(late) })
	server.Drain(late)
	timer.Stop()
	ln.Wait()
	log.Info("stopped")
	return nil
}

// follow starts bringing configuration to the node and returns what stops it.
func (o *options) follow(ctx context.Context, log *slog.Logger, node *runtime.Runtime) (func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	stop := func() {
		cancel()
		<-done
	}
	if o.config != "" {
		reload := make(chan struct{}, 1)
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		files := &follow.Files{Path: o.config, Log: log, Reload: reload, To: node}
		if err := files.Load(); err != nil {
			cancel()
			return nil, fmt.Errorf("configuration files:\n%w", err)
		}
		go func() {
			for {
				select {
				case <-ctx.Done():
					signal.Stop(hup)
					return
				case <-hup:
					reload <- struct{}{}
				}
			}
		}()
		go func() {
			defer close(done)
			files.Run(ctx)
		}()
		return stop, nil
	}
	token, err := o.joinToken()
	if err != nil {
		cancel()
		return nil, err
	}
	follower, err := follow.NewFollower(follow.Settings{
		Addresses: o.controlPlane, Token: token, NodeID: o.nodeID, Group: o.group, Labels: o.labels, Build: observe.Version(), DataDir: o.dataDir,
	}, log, node)
	if err != nil {
		cancel()
		return nil, err
	}
	log.Info("following control planes", "node", follower.NodeID(), "addresses", o.controlPlane)
	go func() {
		defer close(done)
		follower.Run(ctx)
	}()
	return stop, nil
}

func (o *options) joinToken() (string, error) {
	if t := os.Getenv("GATEWAY_JOIN_TOKEN"); t != "" {
		return t, nil
	}
	if o.joinTokenFile == "" {
		return "", errors.New("a join token is required: GATEWAY_JOIN_TOKEN in the environment, or --join-token-file")
	}
	text, err := os.ReadFile(o.joinTokenFile)
	if err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func serveStatus(o *options, log *slog.Logger, so status.Options) (*http.Server, error) {
	ln, err := net.Listen("tcp", o.statusAddr)
	if err != nil {
		return nil, fmt.Errorf("listen for status: %w", err)
	}
	s := &http.Server{Handler: status.Handler(so), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	go func() { _ = s.Serve(ln) }()
	return s, nil
}
