package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gateway.internal/dataplane/internal/accesslog"
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/egress"
	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/http1"
	"gateway.internal/dataplane/internal/http2"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/dataplane/internal/proxy"
	"gateway.internal/dataplane/internal/resolve"
	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/dataplane/internal/socket"
	"gateway.internal/dataplane/internal/status"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/upstream"
	"gateway.internal/dataplane/internal/via"
	"gateway.internal/shared/observe"
	"gateway.internal/shared/shutdown"
)

func run(ctx context.Context, o *options) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	log, err := observe.Logger(os.Stderr, o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	path, err := program()
	if err != nil {
		return err
	}
	asked, ignore := onReplace()
	defer ignore()
	end, forget := shutdown.OnSignals(ctx, o.shutdownDelay)
	defer forget()
	stop := end.Asked // what is not done before the first signal is not done any more
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := o.inherit(stop, log)
	if err != nil {
		return err
	}
	defer func() { in.end(err) }()

	registry := observe.Registry()
	counters := telemetry.New(4 * goruntime.GOMAXPROCS(0))
	services := upstream.NewRegistry(log)
	resolver, err := resolve.New(resolve.Settings{Servers: o.resolvers}, log)
	if err != nil {
		return err
	}
	defer resolver.Close()
	services.ResolveWith(resolver)
	services.OnNode(o.labels)
	defer services.Close()
	counting, endSharing, err := o.share(log, registry, services)
	if err != nil {
		return err
	}
	defer endSharing()
	tickets, err := o.tickets(in.secret())
	if err != nil {
		return err
	}
	node := runtime.New(log, services, counters, tickets)
	defer node.Close()
	node.Limits().UseRedis(counting)
	node.UsePaths(o.paths)
	providers := egress.New(o.providers, resolve.ServerAddresses(o.resolvers)...)
	defer providers.Close()
	node.UseEgress(providers)
	registry.MustRegister(counters, counters.Sets(), services, node, resolver)
	go tickets.Run(running)
	go node.Limits().Run(running)

	var leaving atomic.Bool
	statusListener, err := o.listenStatus(in)
	if err != nil {
		return err
	}
	defer statusListener.Close()
	access, closeAccess, err := o.openAccessLog(log, registry)
	if err != nil {
		return err
	}
	defer closeAccess()
	idle := socket.NewIdleConns()
	defer idle.Close()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_resting_connections", Help: "Open client connections over HTTP/1 that wait for a request without a goroutine.",
	}, func() float64 { return float64(idle.Len()) }))
	var loops *socket.Loops
	if o.eventLoops {
		loops = socket.NewLoops(goruntime.GOMAXPROCS(0))
	}
	defer loops.Close()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_loop_connections", Help: "Open connections over HTTP/1, of clients and to services, that are used so often that a goroutine serves many of them.",
	}, func() float64 { return float64(loops.Len()) }))
	shedding := o.overload()
	registry.MustRegister(shedding)
	go shedding.Run(running)
	handler := proxy.New(node, counters, via.New(o.via), access).Headers(o.headers).Overload(shedding)
	listeners, err := o.listen(running, in, idle, loops, log, handler, node, counters)
	if err != nil {
		return err
	}
	version, err := in.ready(stop)
	if err != nil {
		return err
	}
	conf, err := o.follow(in, log, node)
	if err != nil {
		return err
	}
	defer conf.stop()
	registry.MustRegister(conf.metrics)
	if err := in.take(stop, log, version, node, conf); err != nil {
		return err
	}

	notReady := func() string {
		if leaving.Load() {
			return "the node is stopping"
		}
		return conf.notReady()
	}
	health := status.NewHealth(func() bool { return node.Snapshot() != nil && notReady() == "" })
	statusServer := serveStatus(statusListener, log, health, status.Options{
		Registry: registry, Node: node, Profiling: o.profiling, NotReady: notReady, Degraded: conf.degraded,
	})
	endStatus := sync.OnceFunc(func() {
		health.End()
		within, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = statusServer.Shutdown(within)
		_ = statusServer.Close()
	})
	defer endStatus()
	for _, ln := range listeners {
		go ln.Serve()
	}
	conf.start()
	door := in.door(o.dataDir, log)
	in.alone(stop, log)
	in.sockets.Close()
	log.Info("data plane ready to serve", "addresses", addresses(listeners), "status", o.statusAddr, "version", observe.Version())
	left := make(chan struct{})
	stays := context.AfterFunc(end.Asked, func() {
		defer close(left)
		leaving.Store(true)
		health.Changed()
		notify(log, "STOPPING=1")
		if o.shutdownDelay > 0 {
			log.Info("stopping: not ready any more, connections are still accepted", "shutdown_delay", o.shutdownDelay.String())
			listener.Leave(listeners...)
		}
	})
	next := await(end, log, door, o.owner(listeners, statusListener, tickets, conf, node), &respawner{log: log, path: path, patience: helloPatience}, asked)

	if !stays() {
		<-left
	}
	end.Close() // the next signal cuts what is under way
	late, cancelLate := context.WithTimeout(end.Cutting, o.drainTimeout)
	defer cancelLate()
	if next != nil {
		listener.Close(listeners...)
		_ = statusListener.Close()
		next.Bye()  // nobody comes to this process any more
		endStatus() // the other process answers for the node, also to those who kept a connection
	} else {
		conf.pause()
	}
	log.Info("draining", "timeout", o.drainTimeout.String(), "upgraded", counters.Upgrades().Active())
	listener.Drain(late.Done(), listeners...)
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
func (o *options) listen(
	ctx context.Context, in *inheritance, idle *socket.IdleConns, loops *socket.Loops, log *slog.Logger,
	handler codec.Handler, node *runtime.Runtime, counters *telemetry.Registry,
) ([]*listener.Listener, error) {
	one, two := http1.NewServer(o.limits, handler), http2.NewServer(o.limits, handler)
	one.HandOver(two.Serve)
	one.ParkIn(idle)
	one.ServeIn(loops, http1.JoinAfter)
	go one.Run(ctx, http1.LookInterval)
	set := listener.Settings{
		Log: log, Servers: listener.Servers{HTTP1: one, HTTP2: two}, Counters: counters,
		Proxies: o.proxies, ProxyProtocol: o.proxyProtocol, HeaderTimeout: o.limits.HeadTimeout,
		Limit: listener.NewLimit(o.maxConnections, o.maxPerClient), SocketMode: o.socketMode,
		Forwarded: o.forwarded.Fields(), RouteByForwardedHost: o.forwardedHost,
	}
	var all []*listener.Listener
	for _, at := range []struct {
		name      string
		addresses []string
		security  *listener.Security
	}{
		{"http", o.httpAddr, nil},
		{"https", o.httpsAddr, &listener.Security{Certificates: node.Certificates, HandshakeTimeout: o.handshakeTimeout}},
	} {
		set.Security = at.security
		for _, address := range at.addresses {
			if ln := in.sockets.Take(at.name, address); ln != nil {
				all = append(all, listener.Adopt(ln, set, in.from != nil))
				continue
			}
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

// follow makes what brings configuration to the node. What there is already, in files or in the data folder, is
// applied.
func (o *options) follow(in *inheritance, log *slog.Logger, node *runtime.Runtime) (*configuration, error) {
	if o.config != "" {
		if _, lock := in.identity(); lock != nil {
			_ = lock.Close() // it is for those who follow a control plane
		}
		files := &follow.Files{Path: o.config, Log: log, Reload: make(chan struct{}), To: node}
		if err := files.Load(); err != nil {
			return nil, fmt.Errorf("configuration files:\n%w", err)
		}
		return followFiles(files), nil
	}
	admission, err := o.join(log)
	if err != nil {
		return nil, err
	}
	instance, lock := in.identity()
	follower, err := follow.NewFollower(follow.Settings{
		Addresses: o.controlPlane, Join: admission, NodeID: cmp.Or(o.nodeID, named(admission.Files)), Group: o.group,
		Labels: o.labels, Build: observe.Version(), DataDir: o.dataDir, Keys: o.keys(),
		Instance: instance, Lock: lock, RefusalTimeout: o.refusalTimeout,
	}, log, node)
	if err != nil {
		return nil, err
	}
	log.Info("following control planes", "node", follower.NodeID(), "addresses", o.controlPlane)
	return &configuration{follower: follower, metrics: follower, run: follower.Follow}, nil
}

// followFiles looks at files now and then, and at once on SIGHUP.
func followFiles(files *follow.Files) *configuration {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	reload := make(chan struct{}, 1)
	files.Reload = reload
	return &configuration{metrics: files, run: func(ctx context.Context) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-ctx.Done():
					return
				case <-hup:
					select {
					case reload <- struct{}{}:
					default: // one is asked for
					}
				}
			}
		}()
		files.Run(ctx)
		<-ended
	}}
}

// listenStatus opens the status address.
func (o *options) listenStatus(in *inheritance) (net.Listener, error) {
	if ln := in.sockets.Take("status", o.statusAddr); ln != nil {
		return listener.AdoptSocket(ln, in.from != nil), nil
	}
	ln, err := listener.Bind(o.statusAddr, o.socketMode)
	if err != nil {
		return nil, fmt.Errorf("listen for status: %w", err)
	}
	return ln, nil
}

func serveStatus(ln net.Listener, log *slog.Logger, health *status.Health, so status.Options) *http.Server {
	s := &http.Server{Handler: health.Beside(status.Handler(so)), Protocols: new(http.Protocols), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(ln) }()
	return s
}
