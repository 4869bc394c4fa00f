package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/acme"
	"gateway.internal/controlplane/internal/admin"
	"gateway.internal/controlplane/internal/authority"
	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/discovery"
	"gateway.internal/controlplane/internal/discovery/etcd"
	"gateway.internal/controlplane/internal/fleet"
	"gateway.internal/controlplane/internal/history"
	"gateway.internal/controlplane/internal/store/sql"
	"gateway.internal/controlplane/internal/stream"
	"gateway.internal/shared/bearer"
	"gateway.internal/shared/observe"
	"gateway.internal/shared/shutdown"
)

type options struct {
	httpAddr, grpcAddr, streamAddr string
	dataDir, store                 string
	adminTokenFile, joinTokenFile  string
	encryptionKeyFile              string
	tlsCert, tlsKey                string
	plaintext                      bool
	trustedProxies                 []string
	oidc                           access.OIDCFlags
	shutdownDelay, shutdownTimeout time.Duration
	logLevel, logFormat            string
	etcd                           etcd.Flags
	acme                           acme.Flags
	history                        history.Flags
	authority                      authority.Flags
}

func (o *options) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.httpAddr, "http-addr", "127.0.0.1:9080", "address of REST, /healthz, /readyz and /metrics")
	f.StringVar(&o.grpcAddr, "grpc-addr", "127.0.0.1:9090", "address of the admin API over gRPC")
	f.StringVar(&o.streamAddr, "stream-addr", "127.0.0.1:9095", "address of the stream to the nodes")
	o.bindStore(f)
	f.StringVar(&o.adminTokenFile, "admin-token-file", "", fmt.Sprintf("file with the administrator's token, at "+
		"least %d characters; GATEWAY_ADMIN_TOKEN in the environment goes first; "+
		"without both one is made in the data folder", bearer.MinBytes))
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM file with the certificate, and the chain that leads to it, of the admin "+
		"API, over REST and gRPC; it is read again when it changes; empty: no TLS")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM file with the key of --tls-cert")
	f.BoolVar(&o.plaintext, "plaintext", false, "serve the admin API without TLS at addresses that other machines can "+
		"reach, where something else encrypts")
	f.StringSliceVar(&o.trustedProxies, "trusted-proxies", nil, "addresses and prefixes of the proxies before the admin "+
		"API whose X-Forwarded-For is believed, ADDRESS[,CIDR]: clients are audited, and slowed down, by the address there")
	o.oidc.Bind(f)
	f.StringVar(&o.joinTokenFile, "join-token-file", "", fmt.Sprintf("file with the nodes' token, at least %d "+
		"characters; GATEWAY_JOIN_TOKEN in the environment goes first; "+
		"without both one is made in the data folder", bearer.MinBytes))
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", 0, "how long calls are accepted after SIGTERM while /readyz says no and nodes go elsewhere; a second signal ends it; up to 1h")
	f.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 10*time.Second, "how long calls may go on after SIGTERM")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	o.etcd.Bind(f)
	o.acme.Bind(f)
	o.history.Bind(f)
	o.authority.Bind(f)
}

func run(ctx context.Context, o *options) error {
	if o.shutdownDelay < 0 || o.shutdownDelay > shutdown.MaxDelay {
		return fmt.Errorf("--shutdown-delay %s: has to be from 0 to 1h", o.shutdownDelay)
	}
	if err := o.checkTLS(); err != nil {
		return err
	}
	proxies, err := admin.ParseProxies(o.trustedProxies)
	if err != nil {
		return fmt.Errorf("--trusted-proxies: %w", err)
	}
	log, err := observe.Logger(os.Stderr, o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.dataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	adminToken, err := token(log, "admin", "GATEWAY_ADMIN_TOKEN", o.adminTokenFile, o.dataDir)
	if err != nil {
		return err
	}
	joinToken, err := token(log, "join", "GATEWAY_JOIN_TOKEN", o.joinTokenFile, o.dataDir)
	if err != nil {
		return err
	}
	admission, err := o.authority.Settings(joinToken, log)
	if err != nil {
		return err
	}
	end, forget := shutdown.OnSignals(ctx, o.shutdownDelay)
	defer forget()
	ctx = end.Asked
	keys, err := o.encryptionKeys(log)
	if err != nil {
		return err
	}
	kept, err := sql.OpenSealed(ctx, o.storeURL(), keys, log)
	if err != nil {
		return err
	}
	defer kept.Close()

	var sources []discovery.Source
	inEtcd, err := o.etcd.Source()
	if err != nil {
		return err
	}
	if inEtcd != nil {
		sources = append(sources, inEtcd)
	}
	registry := observe.Registry()
	model := catalog.New(kept, log)
	registry.MustRegister(gauges(model)...)
	registry.MustRegister(acme.Expiries{Catalog: model})
	nodes := fleet.New(registry)
	certificates, err := o.acme.Keeper(model, kept, nodes, log, registry)
	if err != nil {
		return err
	}
	pruner, err := o.history.Pruner(kept, model, log)
	if err != nil {
		return err
	}
	api := admin.New(model, kept, nodes, adminToken, log, registry)
	api.Behind(proxies)
	provider, err := o.oidc.OIDC(log)
	if err != nil {
		return err
	}
	if provider != nil {
		api.Trust(provider)
	}
	adminServer := api.GRPC()
	gate := authority.New(admission, kept, log, registry)
	api.EnrolBy(gate.Pin)
	streams := stream.New(model, nodes, gate, log)
	streamServer := streams.GRPC()
	rest, err := api.NewREST(ctx, adminServer)
	if err != nil {
		return err
	}
	defer rest.Close()
	httpServer := &http.Server{
		Handler: handler(ctx, rest, registry, api.Ready), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 2 * time.Minute, WriteTimeout: 2 * time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	listeners, err := listen(o.httpAddr, o.grpcAddr, o.streamAddr)
	if err != nil {
		return err
	}
	for i, most := range []int{maxAdminConnections, maxAdminConnections, maxNodeConnections} {
		listeners[i] = bound(listeners[i], most, log)
	}
	serveREST, adminListener, err := o.secure(httpServer, listeners[0], listeners[1], log)
	if err != nil {
		return err
	}
	var group errgroup.Group
	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return model.Run(running) })
	group.Go(func() error { return api.Run(running) })
	group.Go(func() error { return gate.Run(running) })
	group.Go(func() error { return discovery.Run(running, model, kept, sources, registry, log) })
	if pruner != nil {
		group.Go(func() error { return pruner.Run(running) })
	}
	if certificates != nil {
		group.Go(func() error { return certificates.Run(running) })
	}
	group.Go(func() error { return closed(serveREST()) })
	group.Go(func() error { return adminServer.Serve(adminListener) })
	group.Go(func() error { return streamServer.Serve(listeners[2]) })
	log.Info("control plane serving", "http", listeners[0].Addr().String(), "grpc", listeners[1].Addr().String(), "stream", listeners[2].Addr().String(), "version", observe.Version())
	<-ctx.Done()

	log.Info("stopping: not ready any more, nodes go elsewhere", "shutdown_delay", o.shutdownDelay.String())
	streams.Stop()
	<-end.Closing.Done()
	late, cancelLate := context.WithTimeout(end.Cutting, o.shutdownTimeout)
	defer cancelLate()
	var calls errgroup.Group // each has the whole time
	calls.Go(func() error { stopGRPC(late, streamServer); return nil })
	calls.Go(func() error {
		_ = httpServer.Shutdown(late)
		stopGRPC(late, adminServer) // which REST calls need until they have ended
		return nil
	})
	_ = calls.Wait()
	stopRunning()
	err = group.Wait()
	log.Info("stopped")
	return err
}

func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func stopGRPC(late context.Context, g *grpc.Server) {
	done := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-late.Done():
		g.Stop()
	}
}

func listen(addresses ...string) ([]net.Listener, error) {
	var all []net.Listener
	for _, a := range addresses {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			for _, open := range all {
				_ = open.Close()
			}
			return nil, err
		}
		all = append(all, ln)
	}
	return all, nil
}

// handler makes clients connect anew for what they have next once stopping is over, which may lead them elsewhere.
func handler(stopping context.Context, rest http.Handler, registry *prometheus.Registry, ready func() string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", rest)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]string{"status": "ok"}) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reason := ready()
		if stopping.Err() != nil {
			reason = "the control plane is stopping"
		}
		if reason != "" {
			reply(w, 503, map[string]string{"status": "not ready", "reason": reason})
			return
		}
		reply(w, 200, map[string]string{"status": "ready"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stopping.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		mux.ServeHTTP(w, r)
	})
}

func reply(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func gauges(c *catalog.Catalog) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_config_version", Help: "The newest revision."}, func() float64 {
			if v := c.Current(); v != nil {
				return float64(v.Revision)
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_store_up", Help: "1 when the store can be read."}, func() float64 {
			if c.StoreError() != nil || c.Current() == nil {
				return 0
			}
			return 1
		}),
	}
}
