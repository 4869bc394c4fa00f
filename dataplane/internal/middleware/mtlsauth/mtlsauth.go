// Package mtlsauth is the middleware type "mtls_auth": it finds the consumer by the client's certificate.
package mtlsauth

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.MtlsAuth)
	if !ok {
		return nil, fmt.Errorf("mtls_auth: settings are a %T", settings)
	}
	s := &step{tells: m.GetConsumerHeader(), consumers: env.Consumers}
	var strips []string
	if s.tells != "" {
		strips = append(strips, s.tells)
	}
	var err error
	s.guard, err = identity.New(m, env, "", "", strips...)
	return s, err
}

type step struct {
	guard     *identity.Guard
	tells     string // the field that tells the service who it is
	consumers func() *consumer.Set
}

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if s.guard.Excluded(x) {
		return exchange.Continue
	}
	if x.TLS == nil || x.TLS.Certificate == nil {
		return s.guard.Absent(x, fault.Unauthenticated, "the client has shown no certificate")
	}
	facts, all := x.TLS.Facts(), s.consumers()
	c := all.ByFingerprint(facts.Fingerprint) // it says more than a subject does
	if c.Consumer() == nil {
		c = all.BySubject(facts.DN)
	}
	if c.Consumer() == nil {
		return s.guard.Wrong(x, fault.Unauthenticated, "the client's certificate is no consumer's")
	}
	if v := s.guard.Accept(x, c.Consumer().Principal("")); v != exchange.Continue {
		return v
	}
	if s.tells != "" {
		x.Request.Header.Set(s.tells, c.Consumer().Name())
	}
	return exchange.Continue
}

// Response implements pipeline.Step.
func (s *step) Response(*exchange.Exchange) {}
