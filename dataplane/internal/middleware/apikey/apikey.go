// Package apikey is the middleware type "api_key": it finds the consumer by a key that requests have in a field, a
// parameter or a cookie.
package apikey

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/credential"
	"gateway.internal/shared/fault"
)

// scheme is the authentication scheme of keys in Authorization, and the challenge. No registry has it.
const scheme = "ApiKey"

// defaultHeader has the key where settings name no place.
const defaultHeader = "X-Api-Key"

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.ApiKey)
	if !ok {
		return nil, fmt.Errorf("api_key: settings are a %T", settings)
	}
	s := &step{
		query: m.GetQuery(), cookies: m.GetCookie(), forward: m.GetForwardCredentials(), tells: m.GetConsumerHeader(),
		consumers: env.Consumers, now: env.Now,
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, name := range m.GetHeaders() {
		s.headers = append(s.headers, header{name, exchange.EqualFold(name, "Authorization")})
	}
	if len(s.headers) == 0 && len(s.query) == 0 && len(s.cookies) == 0 {
		s.headers = []header{{defaultHeader, false}}
	}
	var strips []string
	if s.tells != "" {
		strips = append(strips, s.tells)
	}
	var err error
	s.guard, err = identity.New(m, env, scheme, "", strips...)
	return s, err
}

// header is a field that may have a key; behind the scheme, where it is Authorization.
type header struct {
	name    string
	schemed bool
}

type step struct {
	guard          *identity.Guard
	headers        []header
	query, cookies []string
	forward        bool
	tells          string // the field that tells the service who it is
	consumers      func() *consumer.Set
	now            func() time.Time
}

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if s.guard.Excluded(x) {
		return exchange.Continue
	}
	var found keys
	s.find(x, &found)
	switch {
	case found.key == "" && !found.odd:
		return s.guard.Absent(x, fault.MissingAPIKey, "the request has no API key")
	case found.several:
		return s.guard.Wrong(x, fault.InvalidAPIKey, "the request has different API keys")
	}
	var c consumer.Credential
	if !found.odd {
		hash := credential.HashKey(found.key)
		c = s.consumers().ByKey(&hash)
	}
	switch {
	case c.Consumer() == nil:
		return s.guard.Wrong(x, fault.InvalidAPIKey, "the API key is not valid")
	case !c.Active(s.now):
		return s.guard.Wrong(x, fault.InactiveAPIKey, "the API key is switched off or has expired")
	}
	if v := s.guard.Accept(x, c.Consumer().Principal(scheme)); v != exchange.Continue {
		return v
	}
	if !s.forward {
		s.remove(x, &found)
	}
	if s.tells != "" {
		x.Request.Header.Set(s.tells, c.Consumer().Name())
	}
	return exchange.Continue
}

// Response implements pipeline.Step.
func (s *step) Response(*exchange.Exchange) {}
