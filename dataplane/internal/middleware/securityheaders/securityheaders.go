// Package securityheaders is the middleware type "security_headers": it sets response fields that make browsers
// careful.
package securityheaders

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

const defaultMaxAge = 365 * 24 * time.Hour

// New returns the step for settings.
func New(settings proto.Message, _ *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.SecurityHeaders)
	if !ok {
		return nil, fmt.Errorf("security_headers: settings are a %T", settings)
	}
	s := &step{override: m.GetOverride()}
	var err error
	if s.transport, err = transportSecurity(m.GetStrictTransportSecurity()); err != nil {
		return nil, err
	}
	s.add("X-Frame-Options", m.GetFrameOptions(), "deny")
	s.add("X-Content-Type-Options", m.GetContentTypeOptions(), "nosniff")
	s.add("Referrer-Policy", m.GetReferrerPolicy(), "strict-origin-when-cross-origin")
	s.add("Content-Security-Policy", m.GetContentSecurityPolicy(), "off")
	return s, nil
}

// transportSecurity returns the value of Strict-Transport-Security; empty: none.
func transportSecurity(m *middlewarev1.StrictTransportSecurity) (string, error) {
	if m.GetOff() {
		return "", nil
	}
	age := defaultMaxAge
	if text := m.GetMaxAge(); text != "" {
		var err error
		if age, err = time.ParseDuration(text); err != nil {
			return "", fmt.Errorf("security_headers: strict_transport_security.max_age: %w", err)
		}
	}
	v := "max-age=" + strconv.FormatInt(int64(age/time.Second), 10)
	if m.GetIncludeSubdomains() {
		v += "; includeSubDomains"
	}
	if m.GetPreload() {
		v += "; preload"
	}
	return v, nil
}

type step struct {
	fields    []field
	transport string // over HTTPS alone
	override  bool
}

type field struct{ name, value string }

// add adds a field, unless its value is "off".
func (s *step) add(name, value, otherwise string) {
	if value == "" {
		value = otherwise
	}
	if value != "off" {
		s.fields = append(s.fields, field{name, value})
	}
}

// Request implements pipeline.Step.
func (*step) Request(*exchange.Exchange) exchange.Verdict { return exchange.Continue }

// Response sets the fields. What goes over to another protocol, and calls of gRPC, are for no browser's pages.
func (s *step) Response(x *exchange.Exchange) {
	if x.Response.Tunnel || x.RPC == exchange.GRPC {
		return
	}
	for i := range s.fields {
		s.set(&x.Response.Header, s.fields[i].name, s.fields[i].value)
	}
	if s.transport != "" && x.Scheme == "https" { // RFC 6797 section 7.2
		s.set(&x.Response.Header, "Strict-Transport-Security", s.transport)
	}
}

func (s *step) set(h *exchange.Header, name, value string) {
	if !s.override {
		if _, there := h.Lookup(name); there {
			return
		}
	}
	h.Set(name, value)
}
