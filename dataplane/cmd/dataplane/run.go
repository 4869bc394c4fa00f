package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	goruntime "runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/accesslog"
	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/http2"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/dataplane/internal/proxy"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/status"
	"gateway.internal/dataplane/internal/target"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/shared/observe"
)

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
	tickets, err := o.tickets()
	if err != nil {
		return err
	}
	node := runtime.New(log, services, counters, tickets)
	registry.MustRegister(counters, services, node)

	stop, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go tickets.Run(stop)
	following, err := o.follow(stop, log, node)
	if err != nil {
		return err
	}
	defer following()

	var draining atomic.Bool
	health := status.NewHealth(func() bool { return node.Snapshot() != nil && !draining.Load() })
	statusServer, err := serveStatus(o, log, health, status.Options{Registry: registry, Node: node, Profiling: o.profiling, NotReady: func() string {
		if draining.Load() {
			return "the node is draining"
		}
		return ""
	}})
	if err != nil {
		return err
	}
	defer func() {
		health.End()
		within, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = statusServer.Shutdown(within)
		_ = statusServer.Close()
	}()
	access, closeAccess, err := o.openAccessLog(log, registry)
	if err != nil {
		return err
	}
	defer closeAccess()
	lot := socket.NewLot()
	defer lot.Close()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_resting_connections", Help: "Open client connections over HTTP/1 that wait for a request without a goroutine.",
	}, func() float64 { return float64(lot.Len()) }))
	listeners, err := o.listen(stop, lot, log, proxy.New(node, counters, target.Compile(o.paths), access), node, counters)
	if err != nil {
		return err
	}
	log.Info("data plane ready to serve", "addresses", addresses(listeners), "status", o.statusAddr, "version", observe.Version())
	for _, ln := range listeners {
		go ln.Serve()
	}
	<-stop.Done()

	draining.Store(true)
	health.Changed()
	log.Info("draining", "timeout", o.drainTimeout.String(), "upgraded", counters.Upgrades().Active())
	late := make(chan struct{})
	timer := time.AfterFunc(o.drainTimeout, func() { close(late) })
	listener.Drain(late, listeners...)
	timer.Stop()
	log.Info("stopped")
	return nil
}

// openAccessLog opens the access log, where one is wanted, and returns what closes it.
func (o *options) openAccessLog(log *slog.Logger, registry *prometheus.Registry) (*accesslog.Log, func(), error) {
	if o.accessLog == "" {
		return nil, func() {}, nil
	}
	l, err := accesslog.Open(accesslog.Settings{Path: o.accessLog, Query: o.accessLogQuery, Shards: 2 * goruntime.GOMAXPROCS(0)}, log)
	if err != nil {
		return nil, nil, err
	}
	registry.MustRegister(l)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGUSR1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range again {
			l.Reopen()
		}
	}()
	return l, func() {
		signal.Stop(again)
		close(again)
		<-ended
		l.Close()
	}, nil
}

// listen opens the addresses for traffic.
func (o *options) listen(ctx context.Context, lot *socket.Lot, log *slog.Logger, handler http1.Handler, node *runtime.Runtime, counters *telemetry.Registry) ([]*listener.Listener, error) {
	one, two := http1.NewServer(o.limits, handler), http2.NewServer(o.limits, handler)
	one.HandOver(two.Serve)
	one.RestIn(lot)
	go one.Run(ctx)
	set := listener.Settings{
		Log: log, Servers: listener.Servers{HTTP1: one, HTTP2: two}, Counters: counters,
		Proxies: o.proxies, ProxyProtocol: o.proxyProtocol, HeaderTimeout: o.limits.HeadTimeout,
		Limit: listener.NewLimit(o.maxConnections, o.maxPerClient), SocketMode: o.socketMode,
		Forwarded: o.forwarded, RouteByForwardedHost: o.forwardedHost,
	}
	var all []*listener.Listener
	for _, at := range []struct {
		addresses []string
		security  *listener.Security
	}{
		{o.httpAddr, nil},
		{o.httpsAddr, &listener.Security{Certificates: node.Certificates, HandshakeTimeout: o.handshakeTimeout}},
	} {
		set.Security = at.security
		for _, address := range at.addresses {
			ln, err := listener.Listen(address, set)
			if err != nil {
				now := make(chan struct{})
				close(now)
				listener.Drain(now, all...) // socket files that were made are removed
				return nil, err
			}
			all = append(all, ln)
		}
	}
	return all, nil
}

func addresses(listeners []*listener.Listener) []string {
	var all []string
	for _, ln := range listeners {
		all = append(all, ln.URL())
	}
	return all
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

func serveStatus(o *options, log *slog.Logger, health *status.Health, so status.Options) (*http.Server, error) {
	ln, err := listener.Bind(o.statusAddr, o.socketMode)
	if err != nil {
		return nil, fmt.Errorf("listen for status: %w", err)
	}
	s := &http.Server{Handler: health.Beside(status.Handler(so)), Protocols: new(http.Protocols), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(ln) }()
	return s, nil
}
