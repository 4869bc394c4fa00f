package config

import (
	"fmt"
	"time"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// The defaults of absent fields.
const (
	DefaultMaxIdle           = 512
	DefaultMaxPending        = 128
	DefaultConnectTimeout    = 5 * time.Second
	DefaultIdleTimeout       = time.Minute
	DefaultResponseTimeout   = time.Minute
	DefaultMaxAge            = time.Hour
	DefaultMaxRequestBytes   = 10 << 30
	DefaultStreamIdleTimeout = 5 * time.Minute
)

// ParseDuration reads a duration such as "250ms", "30s" or "24h".
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf(`is no duration such as "250ms", "30s" or "24h"`)
	}
	return d, nil
}

// durationOr reads a duration that was validated.
func durationOr(s string, absent time.Duration) time.Duration {
	if s == "" {
		return absent
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return absent
	}
	return d
}

func numberOr(n uint32, absent int) int {
	if n == 0 {
		return absent
	}
	return int(n)
}

// Pool is a service's connection pool with its defaults filled in.
type Pool struct {
	// MaxIdle is how many idle connections are kept per endpoint, MaxConnections how many there may be; 0: any number.
	MaxIdle, MaxConnections int
	// MaxPending is how many requests may wait per endpoint where there may be no more connections.
	MaxPending int
	// ConnectTimeout, IdleTimeout and ResponseTimeout are all above 0.
	ConnectTimeout, IdleTimeout, ResponseTimeout time.Duration
	// MaxAge is how old a connection may be that is used for another request; 0: any age.
	MaxAge time.Duration
}

// SharedRequests is how many requests an HTTP/2 connection carries before another one is opened.
const SharedRequests = 100

// SharedConnections returns how many HTTP/2 connections there may be to an endpoint.
func (p *Pool) SharedConnections() int {
	if p.MaxConnections > 0 {
		return p.MaxConnections
	}
	return 4
}

// ServiceSettings is a service as nodes use it: parsed, with its defaults filled in.
type ServiceSettings struct {
	// Protocol is "http", "https", "h2c", "grpc" or "grpcs".
	Protocol string
	// Balancing is how requests are shared among the endpoints.
	Balancing Balancing
	// Check is nil when there are no active checks.
	Check *HealthCheck
	// Outlier is nil when no endpoint is ejected.
	Outlier *Outlier
	// Pool is how connections are kept.
	Pool Pool
	// Circuit is nil when there is none.
	Circuit *Circuit
	// Discovered tells that endpoints come from discovery instead of the configuration.
	Discovered bool
}

// ServiceSettingsOf reads a valid service's settings.
func ServiceSettingsOf(s *configv1.Service) ServiceSettings {
	set := ServiceSettings{
		Protocol:   orString(s.GetProtocol(), "http"),
		Balancing:  balancingOf(s),
		Discovered: s.GetDiscovery() != nil,
		Pool: Pool{
			MaxIdle:         DefaultMaxIdle,
			MaxPending:      DefaultMaxPending,
			MaxConnections:  int(s.GetConnectionPool().GetMaxConnections()),
			ConnectTimeout:  durationOr(s.GetConnectionPool().GetConnectTimeout(), DefaultConnectTimeout),
			IdleTimeout:     durationOr(s.GetConnectionPool().GetIdleTimeout(), DefaultIdleTimeout),
			ResponseTimeout: durationOr(s.GetConnectionPool().GetResponseTimeout(), DefaultResponseTimeout),
			MaxAge:          durationOr(s.GetConnectionPool().GetMaxAge(), DefaultMaxAge),
		},
	}
	if p := s.GetConnectionPool(); p != nil && p.MaxIdleConnections != nil {
		set.Pool.MaxIdle = int(p.GetMaxIdleConnections())
	}
	if p := s.GetConnectionPool(); p != nil && p.MaxPending != nil {
		set.Pool.MaxPending = int(p.GetMaxPending())
	}
	set.Circuit = circuitOf(s.GetCircuitBreakerConfig())
	if h := s.GetHealthCheckConfig(); h != nil {
		set.Check = healthCheckOf(h, set.Protocol)
	}
	set.Outlier = outlierOf(s.GetOutlierDetection())
	return set
}

// UsesTLS reports whether a service's protocol is spoken over TLS.
func UsesTLS(protocol string) bool { return protocol == "https" || protocol == "grpcs" }

// SpeaksHTTP2 reports whether a service's endpoints are spoken to in HTTP/2: always, or where they choose it by ALPN.
func SpeaksHTTP2(s *configv1.Service) bool {
	switch s.GetProtocol() {
	case "h2c", "grpc", "grpcs":
		return true
	case "https":
		return s.GetTls().GetHttp2()
	}
	return false
}

func orString(s, absent string) string {
	if s == "" {
		return absent
	}
	return s
}

// Weight returns an endpoint's weight; absent means 1.
func Weight(e *configv1.Endpoint) uint32 {
	if e.Weight == nil {
		return 1
	}
	return e.GetWeight()
}

// BackendWeight returns a backend's weight. Absent means 1, and 0 where it says itself which requests it gets.
func BackendWeight(b *configv1.Backend) uint32 {
	if b.Weight == nil && b.GetMatch() == nil {
		return 1
	}
	return b.GetWeight()
}

// Limits are what a policy says of one exchange.
type Limits struct {
	// Timeout is the longest that an exchange may take; 0: any time.
	Timeout time.Duration
	// MaxRequestBytes is the largest request body.
	MaxRequestBytes int64
	// StreamIdle is the longest that nothing may go in either direction once an exchange is a stream; 0: not said, which
	// is DefaultStreamIdleTimeout for those that are streams whatever the policy says.
	StreamIdle time.Duration
	// HeadTimeout is the longest wait for a response's head; 0: not said.
	HeadTimeout time.Duration
	// DeadlineHeader is the field that tells services how much time is left; "": none. AcceptDeadline makes that of
	// clients a limit.
	DeadlineHeader string
	AcceptDeadline bool
	// Upgrades are the protocols that clients may go over to, and ConnectUpgrade where they may tunnel by CONNECT; never
	// nil.
	Upgrades []string
	// Priority says who goes first where the node has too much to do, and ByGroup the same by the consumer's groups; nil:
	// those do not matter.
	Priority Priority
	ByGroup  GroupPriorities
	// BufferBytes is the longest body that is read before the service is asked for a connection; 0: none is. LargerStreams
	// tells that longer ones are not refused.
	BufferBytes   int
	LargerStreams bool
	// Fault makes some requests late, and answers some; nil: none.
	Fault *configv1.Fault
}

// StreamIdleOr returns StreamIdle with its default filled in.
func (l *Limits) StreamIdleOr() time.Duration {
	if l.StreamIdle > 0 {
		return l.StreamIdle
	}
	return DefaultStreamIdleTimeout
}

// NoUpgrades is the word for no protocol in a policy's upgrades.
const NoUpgrades = "none"

// upgradesOf returns the protocols that a policy's list stands for.
func upgradesOf(list []string) []string {
	if len(list) == 1 && list[0] == NoUpgrades {
		return []string{}
	}
	return list
}

// LimitsOf merges a route's policy over its service's, field by field. Either may be nil.
func LimitsOf(route, service *configv1.Policy) Limits {
	l := Limits{MaxRequestBytes: DefaultMaxRequestBytes, Upgrades: []string{"websocket"}}
	for _, p := range []*configv1.Policy{service, route} {
		if p == nil {
			continue
		}
		l.Timeout = durationOr(p.GetTimeout(), l.Timeout)
		if p.MaxRequestBytes != nil {
			l.MaxRequestBytes = p.GetMaxRequestBytes()
		}
		l.StreamIdle = durationOr(p.GetStreamIdleTimeout(), l.StreamIdle)
		l.HeadTimeout = durationOr(p.GetResponseHeaderTimeout(), l.HeadTimeout)
		l.DeadlineHeader = orString(p.GetDeadlineHeader(), l.DeadlineHeader)
		if p.AcceptDeadline != nil {
			l.AcceptDeadline = p.GetAcceptDeadline()
		}
		if list := p.GetUpgrades(); len(list) > 0 {
			l.Upgrades = upgradesOf(list)
		}
		if b := p.GetBufferRequest(); b != nil {
			l.BufferBytes, l.LargerStreams = int(b.GetMaxBytes()), b.GetLarger() == LargerStreams
		}
		if f := p.GetFault(); f != nil {
			l.Fault = f
		}
		l.Priority = priorityOr(p.GetRequestPriority(), l.Priority)
		l.ByGroup = groupPrioritiesOf(p.GetGroupPriorities(), l.ByGroup)
	}
	return l
}

// maxTimeoutOf merges the policies' max_timeout; 0: none.
func maxTimeoutOf(route, service *configv1.Policy) time.Duration {
	var d time.Duration
	for _, p := range []*configv1.Policy{service, route} {
		d = durationOr(p.GetMaxTimeout(), d)
	}
	return d
}
