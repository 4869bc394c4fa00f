package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/dataplane/internal/certificate"
	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/egress"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/follow"
	"gateway.internal/dataplane/internal/forwarded"
	"gateway.internal/dataplane/internal/listener"
	"gateway.internal/dataplane/internal/overload"
	"gateway.internal/dataplane/internal/proxy"
	"gateway.internal/dataplane/internal/redis"
	"gateway.internal/dataplane/internal/resolve"
	"gateway.internal/dataplane/internal/via"
	"gateway.internal/shared/bearer"
	"gateway.internal/shared/identity"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/secretkey"
	"gateway.internal/shared/shutdown"
)

type options struct {
	httpAddr, httpsAddr []string
	statusAddr, dataDir string
	config              string
	controlPlane        []string
	nodeID, group       string
	labels              map[string]string
	joinTokenFile       string
	encryptionKeyFile   string
	tls                 identity.Files
	tlsServerName       string
	redisTLS            identity.Files
	plaintext           bool
	refusalTimeout      time.Duration
	resolvers           []string
	providerNetworks    []string
	providers           *egress.Policy // of providerNetworks, once they are checked
	redis               string
	shutdownDelay       time.Duration
	drainTimeout        time.Duration
	replace             bool
	logLevel, logFormat string
	profiling           bool
	eventLoops          bool
	handshakeTimeout    time.Duration
	accessLog           string
	accessLogQuery      bool
	ticketSecretFile    string
	limits              codec.Limits
	paths               pathnorm.Settings
	via                 via.Settings
	trustedProxies      []string
	proxies             *exchange.Proxies // of trustedProxies, once they are checked
	proxyProtocol       listener.ProxyProtocol
	forwarded           forwarded.Flag
	forwardedHost       bool
	headers             proxy.HeaderSettings
	maxConnections      int
	maxPerClient        int
	maxRequests         int
	maxMemory           int64
	maxDelay            time.Duration
	socketMode          listener.SocketMode
}

func (o *options) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.httpAddr, "http-addr", []string{":8080"}, "addresses for proxied HTTP without TLS, HOST:PORT, unix:PATH or unix:@NAME[,...]; empty: none")
	f.StringSliceVar(&o.httpsAddr, "https-addr", []string{":8443"}, "addresses for proxied HTTP over TLS, by the configuration's certificates; empty: none")
	f.StringVar(&o.statusAddr, "status-addr", "127.0.0.1:8081", "address of /metrics, /healthz, /readyz and grpc.health.v1.Health; may be unix:PATH")
	o.socketMode = listener.DefaultSocketMode
	f.Var(&o.socketMode, "unix-socket-mode", "mode of the files of Unix sockets, in octal: who may write may connect")
	f.IntVar(&o.maxConnections, "max-connections", listener.DefaultMaxConnections(), "most client connections at a time, others are reset; 0: any number. The default is half of the descriptors that the process may have")
	f.IntVar(&o.maxPerClient, "max-connections-per-client", 0, "most connections at a time of a client that is no trusted proxy, by its IPv4 address or the first 64 bits of its IPv6 address; 0: any number")
	f.IntVar(&o.maxRequests, "max-requests", 0, "most exchanges at a time, tunnels left out: requests of low priority "+
		"are answered with 503 from half of it on, normal ones from 80 %, high ones from 90 %; 0: any number")
	f.Int64Var(&o.maxMemory, "max-memory-bytes", 0, "memory of the process, from 70 % of which on requests are turned "+
		"away by priority; 0: GOMEMLIMIT, or else 90 % of the control group's; -1: any")
	f.DurationVar(&o.maxDelay, "max-scheduling-delay", 500*time.Millisecond, "how long goroutines may wait for a "+
		"processor, all of them for a second, from half of which on requests are turned away by priority; 10ms to 1m; "+
		"0: for ever")
	f.StringVar(&o.dataDir, "data-dir", "./data/dataplane", "folder of the last good snapshot and the node's identity")
	f.StringVar(&o.encryptionKeyFile, "encryption-key-file", "", "file with the key that encrypts the last good "+
		"snapshot: 32 bytes in base64, one key a line, the first one is used and the others are those before it; "+
		secretkey.Env+" in the environment goes first; without both one is made in the data folder")
	f.StringVar(&o.config, "config", "", "file or folder to follow instead of a control plane")
	f.StringSliceVar(&o.controlPlane, "control-plane", nil, "stream addresses of control planes, HOST:PORT[,HOST:PORT]")
	f.StringVar(&o.nodeID, "node-id", "", "id in the fleet; empty: made once and kept in the data folder")
	f.StringVar(&o.group, "group", "", "group for rollouts")
	f.StringToStringVar(&o.labels, "labels", nil, "labels, key=value[,key=value]")
	f.StringVar(&o.joinTokenFile, "join-token-file", "", fmt.Sprintf("file with the join token, at least %d characters; "+
		"GATEWAY_JOIN_TOKEN in the environment goes first", bearer.MinBytes))
	f.StringVar(&o.tls.Certificate, "tls-cert", "", "PEM file with the certificate to show to control planes, of an "+
		"outside "+
		"authority that they have as --stream-client-ca, in place of one that the node gets by its join token; read "+
		"again when it changes")
	f.StringVar(&o.tls.Key, "tls-key", "", "PEM file with that certificate's key")
	f.StringVar(&o.tls.Authorities, "ca", "", "PEM file with the authorities of control planes' certificates "+
		"(--stream-tls-cert), "+
		"in place of the control planes' built-in one; read again when it changes")
	f.StringVar(&o.tlsServerName, "tls-server-name", "", "name that control planes' certificates have to have with "+
		"--ca, or a "+
		"SPIFFE id, spiffe://DOMAIN/PATH; empty: the host in --control-plane")
	f.BoolVar(&o.plaintext, "plaintext", false, "connect to control planes in plain text, which shows the join token "+
		"to whoever "+
		"reads along, and needs their --stream-plaintext")
	f.DurationVar(&o.refusalTimeout, "refusal-timeout", 0, "how long the node may refuse a revision that most of its "+
		"fleet runs, as its control plane says, before /readyz says no; 1s to 24h; 0: for ever")
	f.StringVar(&o.ticketSecretFile, "tls-ticket-secret-file", "", "file of at least 32 random bytes that session tickets are derived from, the same for nodes that share an address; empty: random, this process only")
	f.DurationVar(&o.handshakeTimeout, "tls-handshake-timeout", 10*time.Second, "longest that a TLS handshake may take")
	f.StringSliceVar(&o.resolvers, "resolver", nil, "name servers for the names of endpoints, ADDRESS[:PORT][,...]; empty: those of /etc/resolv.conf. /etc/hosts goes first")
	f.StringSliceVar(&o.providerNetworks, "identity-provider-networks", nil, `networks besides the Internet where `+
		`identity providers may be asked, by http too: addresses, prefixes, or "private", ADDRESS[/BITS][,...]; `+
		"empty: public addresses by https, and 127.0.0.1, [::1] and localhost where a URL says so")
	f.StringVar(&o.redis, "redis", "", "URL of the Redis server that nodes share the openings of circuits through, "+
		"redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS; a password is better kept in GATEWAY_REDIS "+
		"in the environment; empty: nothing is shared")
	f.StringVar(&o.redisTLS.Authorities, "redis-ca", "", "PEM file with the authorities of Redis' certificate, for "+
		"rediss://; empty: the system's")
	f.StringVar(&o.redisTLS.Certificate, "redis-cert", "", "PEM file with the certificate to show to Redis; read again "+
		"when it changes")
	f.StringVar(&o.redisTLS.Key, "redis-key", "", "PEM file with that certificate's key")
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", 0, "how long connections are accepted after SIGTERM while /readyz says no, for balancers to notice; a second signal ends it; up to 1h")
	f.DurationVar(&o.drainTimeout, "drain-timeout", 30*time.Second, "how long exchanges may go on after SIGTERM, or after the node is replaced")
	f.BoolVar(&o.replace, "replace", false, "take over from the node that runs with the same --data-dir, if there is one, without refusing a connection; SIGUSR2 makes a node start its own program so")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.accessLog, "access-log", "", `file for a line of JSON for every request, or "stdout" or "stderr"; SIGUSR1 opens the file anew; empty: none`)
	f.BoolVar(&o.accessLogQuery, "access-log-query", false, "log queries too, which may carry secrets")
	f.BoolVar(&o.eventLoops, "event-loops", true, "serve busy connections over HTTP/1.1, with TLS or without, in event "+
		"loops, one for each core; false: each in a goroutine of its own, which costs more CPU time")
	f.BoolVar(&o.profiling, "profiling", false, "serve /debug/pprof/ on the status address")
	o.limits = codec.DefaultLimits()
	f.IntVar(&o.limits.MaxHeadBytes, "max-header-bytes", o.limits.MaxHeadBytes, "largest request head, up to 65536")
	f.IntVar(&o.limits.MaxTargetBytes, "max-target-bytes", o.limits.MaxTargetBytes, "longest path of a request together with its query, 64 to 65536; routes may allow less")
	f.IntVar(&o.limits.MaxFields, "max-header-fields", o.limits.MaxFields, "largest number of request header fields")
	f.DurationVar(&o.limits.HeadTimeout, "header-timeout", o.limits.HeadTimeout, "longest from a request's first byte to the end of its head")
	f.DurationVar(&o.limits.IdleTimeout, "idle-timeout", o.limits.IdleTimeout, "how long a client connection may be without a request")
	f.DurationVar(&o.limits.BodyTimeout, "body-timeout", o.limits.BodyTimeout, "longest wait for more of a request's body")
	f.DurationVar(&o.limits.WriteTimeout, "write-timeout", o.limits.WriteTimeout, "longest that a client may take nothing of a response")
	f.Int64Var(&o.limits.MinRate, "min-client-rate", o.limits.MinRate, "least bytes a second that a client has to send of a body (averaged over --body-timeout) and to take of a response (over --write-timeout) while it is waited for; 0: any")
	f.BoolVar(&o.limits.HalfClosed, "half-closed-clients", false, "let clients that have shut their side of a connection down wait for the response; otherwise they count as gone after a second or two")
	f.StringSliceVar(&o.trustedProxies, "trusted-proxies", nil, `addresses and prefixes of the proxies whose word on clients is believed, ADDRESS[,CIDR]; "unix" for whoever connects to a Unix socket`)
	f.Var(&o.proxyProtocol, "proxy-protocol", `header of the PROXY protocol, version 1 or 2, at the start of connections: "accept" wants it from trusted proxies and serves others without, "require" turns others away; "off"`)
	f.Var(&o.forwarded, "forwarded", `fields that are read from trusted proxies and written for services: "x-forwarded", "forwarded" (RFC 7239), "both" or "off"; clients' own are dropped`)
	f.BoolVar(&o.forwardedHost, "route-by-forwarded-host", false, "route by the host that a trusted proxy says it was asked for, and send it to services as Host")
	f.Var(&o.headers.Names, "header-names", `request fields with other characters in their names than letters, digits and "-", such as X_User, which services may take for X-User: "drop", "refuse" or "keep"`)
	f.Var(&o.headers.RequestIDs, "request-id-from", `whose X-Request-Id becomes the request's id: "any" client's, "trusted" proxies' (--trusted-proxies) or "none", so that every id is made here`)
	f.StringVar(&o.via.Pseudonym, "via", "", "name of the node in the field Via, 1 to 64 letters, digits and -._; nodes with the same name count each other's visits; empty: made of --node-id, or the host's name and --data-dir")
	f.IntVar(&o.via.MaxVisits, "max-visits", via.DefaultMaxVisits, fmt.Sprintf("how often one request may pass the node, by its entries in Via, 1 to %d; the next time is answered with 508", via.MaxVisits))
	o.paths = pathnorm.DefaultSettings()
	for _, p := range o.paths.Options() {
		choices := "refuse, normalise or keep"
		if p.NotNormal {
			choices = "refuse or keep"
		}
		f.Var(p.Action, "path-"+p.Name, "paths with "+p.About+": "+choices)
	}
}

// minMaxMemory is the least memory that makes sense as a limit.
const minMaxMemory = 64 << 20

// overload returns what the node turns requests away by.
func (o *options) overload() *overload.Controller {
	s := overload.Settings{
		MaxRequests: o.maxRequests, MaxMemory: o.maxMemory, MaxDelay: o.maxDelay, Shards: runtime.GOMAXPROCS(0),
	}
	if s.MaxMemory == 0 {
		s.MaxMemory = overload.MemoryLimit()
	}
	return overload.New(s)
}

func (o *options) check() error {
	switch {
	case (o.config == "") == (len(o.controlPlane) == 0):
		return errors.New("one of --config PATH and --control-plane HOST:PORT is required")
	case len(o.httpAddr) == 0 && len(o.httpsAddr) == 0:
		return errors.New("one of --http-addr and --https-addr is required")
	case o.limits.MaxHeadBytes < 512 || o.limits.MaxHeadBytes > 64<<10:
		return fmt.Errorf("--max-header-bytes %d: has to be from 512 to 65536", o.limits.MaxHeadBytes)
	case o.maxConnections < 0:
		return fmt.Errorf("--max-connections %d: has to be 0 or more", o.maxConnections)
	case o.shutdownDelay < 0 || o.shutdownDelay > shutdown.MaxDelay:
		return fmt.Errorf("--shutdown-delay %s: has to be from 0 to 1h", o.shutdownDelay)
	case o.refusalTimeout != 0 && (o.refusalTimeout < time.Second || o.refusalTimeout > 24*time.Hour):
		return fmt.Errorf("--refusal-timeout %s: has to be from 1s to 24h, or 0", o.refusalTimeout)
	case o.redis == "" && o.redisTLS != (identity.Files{}):
		return errors.New("--redis-ca, --redis-cert, --redis-key: have to come with --redis")
	case (o.tls.Certificate == "") != (o.tls.Key == ""):
		return errors.New("--tls-cert and --tls-key: both are required, or none of them")
	case o.tlsServerName != "" && o.tls.Authorities == "":
		return errors.New("--tls-server-name: has to come with --ca; the built-in authority's control planes have a " +
			"name of their own")
	case o.plaintext && o.tls != (identity.Files{}):
		return errors.New("--plaintext: --tls-cert and --ca have no place there")
	case o.config != "" && (o.plaintext || o.tls != (identity.Files{})):
		return errors.New("--tls-cert, --ca and --plaintext: have to come with --control-plane")
	case o.config != "" && o.encryptionKeyFile != "":
		return errors.New("--encryption-key-file: has to come with --control-plane")
	case o.refusalTimeout != 0 && o.config != "":
		return errors.New("--refusal-timeout: has to come with --control-plane")
	case o.maxPerClient < 0:
		return fmt.Errorf("--max-connections-per-client %d: has to be 0 or more", o.maxPerClient)
	case o.maxRequests < 0:
		return fmt.Errorf("--max-requests %d: has to be 0 or more", o.maxRequests)
	case o.maxMemory < -1 || o.maxMemory > 0 && o.maxMemory < minMaxMemory:
		return fmt.Errorf("--max-memory-bytes %d: has to be 67108864 or more, 0 or -1", o.maxMemory)
	case o.maxDelay != 0 && (o.maxDelay < 10*time.Millisecond || o.maxDelay > time.Minute):
		return fmt.Errorf("--max-scheduling-delay %s: has to be from 10ms to 1m, or 0", o.maxDelay)
	case o.limits.MinRate < 0 || o.limits.MinRate > 1<<20:
		return fmt.Errorf("--min-client-rate %d: has to be from 0 to 1048576", o.limits.MinRate)
	case o.limits.MaxTargetBytes < 64 || o.limits.MaxTargetBytes > 64<<10:
		return fmt.Errorf("--max-target-bytes %d: has to be from 64 to 65536", o.limits.MaxTargetBytes)
	case o.limits.MaxFields < 1 || o.limits.MaxFields > 1000:
		return fmt.Errorf("--max-header-fields %d: has to be from 1 to 1000", o.limits.MaxFields)
	}
	var err error
	if o.proxies, err = exchange.ParseProxies(o.trustedProxies); err != nil {
		return fmt.Errorf("--trusted-proxies %w", err)
	}
	if o.proxyProtocol != listener.ProxyProtocolOff && len(o.trustedProxies) == 0 {
		return fmt.Errorf("--proxy-protocol %s: has to come with --trusted-proxies, the addresses that it is accepted from", &o.proxyProtocol)
	}
	if o.forwardedHost && (len(o.trustedProxies) == 0 || o.forwarded.Fields() == exchange.NoForwardedFields) {
		return errors.New("--route-by-forwarded-host: has to come with --trusted-proxies, and not with --forwarded off")
	}
	if o.headers.RequestIDs == exchange.TrustedRequestID && len(o.trustedProxies) == 0 {
		return errors.New("--request-id-from trusted: has to come with --trusted-proxies")
	}
	if o.via.Pseudonym == "" {
		o.via.Pseudonym = via.PseudonymOf(o.name())
	}
	if err := o.via.Check(); err != nil {
		return fmt.Errorf("--via, --max-visits: %w", err)
	}
	if err := resolve.CheckServers(o.resolvers); err != nil {
		return fmt.Errorf("--resolver %w", err)
	}
	if o.providers, err = egress.ParsePolicy(o.providerNetworks); err != nil {
		return fmt.Errorf("--identity-provider-networks %w", err)
	}
	if o.redis != "" {
		if err := redis.Check(o.redis); err != nil {
			return fmt.Errorf("--redis: %w", err)
		}
	}
	if err := o.paths.Check(); err != nil {
		return fmt.Errorf("--path-%w", err)
	}
	for flag, d := range map[string]time.Duration{
		"header-timeout": o.limits.HeadTimeout, "idle-timeout": o.limits.IdleTimeout, "body-timeout": o.limits.BodyTimeout,
		"write-timeout": o.limits.WriteTimeout, "drain-timeout": o.drainTimeout, "tls-handshake-timeout": o.handshakeTimeout,
	} {
		if d <= 0 {
			return fmt.Errorf("--%s %s: has to be above 0", flag, d)
		}
	}
	return nil
}

// name returns what tells the node from others.
func (o *options) name() string {
	if o.nodeID != "" {
		return o.nodeID
	}
	host, _ := os.Hostname()
	dir, err := filepath.Abs(o.dataDir)
	if err != nil {
		dir = o.dataDir
	}
	return host + ":" + dir
}

// keys say where the key is of what is kept in the data folder.
func (o *options) keys() follow.KeySource {
	return follow.KeySource{
		Text: os.Getenv(secretkey.Env), Whence: "environment variable " + secretkey.Env, File: o.encryptionKeyFile,
	}
}

// tickets returns what makes TLS sessions resumable. Where no file has a secret, it is that of the process that is
// replaced.
func (o *options) tickets(inherited []byte) (*certificate.Tickets, error) {
	if o.ticketSecretFile == "" {
		return certificate.NewTickets(inherited), nil
	}
	secret, err := os.ReadFile(o.ticketSecretFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-ticket-secret-file: %w", err)
	}
	if len(secret) < certificate.MinTicketSecret {
		return nil, fmt.Errorf("--tls-ticket-secret-file %s: has %d bytes; at least %d random ones are required", o.ticketSecretFile, len(secret), certificate.MinTicketSecret)
	}
	return certificate.NewTickets(secret), nil
}
