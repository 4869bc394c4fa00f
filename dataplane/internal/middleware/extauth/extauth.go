// Package extauth is the middleware type "ext_auth": another service decides whether a request may pass.
package extauth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/subrequest"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

const (
	defaultTimeout = time.Second
	// maxAnswerBytes is the longest body of an answer: longer ones count as errors.
	maxAnswerBytes = 64 << 10
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.ExtAuth)
	if !ok {
		return nil, fmt.Errorf("ext_auth: settings are a %T", settings)
	}
	s := &step{
		path: m.GetPath(), timeout: defaultTimeout, sent: m.GetRequestHeaders(), taken: m.GetResponseHeaders(),
		allows: m.GetOnError() == "allow", maxBody: int(m.GetMaxBodyBytes()), principal: m.GetPrincipal(),
	}
	if len(s.sent) == 0 {
		s.sent = []string{"Authorization", "Cookie"}
	}
	if t := m.GetTimeout(); t != "" {
		var err error
		if s.timeout, err = time.ParseDuration(t); err != nil {
			return nil, fmt.Errorf("ext_auth: timeout: %w", err)
		}
	}
	if env == nil {
		return nil, errors.New("ext_auth: there are no services to ask")
	}
	s.count = Metrics.byName.Get(env.Name)
	if s.service = env.Service(m.GetServiceId()); s.service == nil {
		return nil, fmt.Errorf("ext_auth: there is no service %s", m.GetServiceId())
	}
	var err error
	s.answers, err = newAnswers(m.GetCache(), s.sent)
	return s, err
}

type step struct {
	service   *subrequest.Client
	path      string
	timeout   time.Duration
	sent      []string
	taken     []string
	allows    bool // on errors
	maxBody   int
	principal *middlewarev1.ExtAuthPrincipal
	answers   *answers // nil: none is kept
	count     *counters
}

// answer is what the service has decided. It is immutable.
type answer struct {
	response  *subrequest.Response
	principal *exchange.Principal
}

func (a *answer) passes() bool { return a.response.Status/100 == 2 }

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	var key answerKey
	if s.answers != nil {
		key = s.answers.key(x)
		if a := s.answers.get(key); a != nil {
			s.count.cached.Add(1)
			return s.apply(x, a)
		}
	}
	if x.InLoop {
		return exchange.Later
	}
	a, err := s.ask(x)
	if err != nil {
		return s.failed(x, err)
	}
	if s.answers != nil {
		s.answers.put(key, a)
	}
	return s.apply(x, a)
}

// Response implements pipeline.Step.
func (s *step) Response(*exchange.Exchange) {}

// errClient is of a request whose own body is what is wrong.
type errClient struct{ why *fault.Error }

func (e *errClient) Error() string { return e.why.Reason }

func (s *step) ask(x *exchange.Exchange) (*answer, error) {
	r := &subrequest.Request{
		Method: x.Request.Method, Path: s.path, MaxResponseBytes: maxAnswerBytes, Repeatable: true,
	}
	if r.Method == "CONNECT" {
		r.Method = "GET"
	}
	if r.Path == "" {
		r.Path, r.Query = x.Request.Path, x.Request.RawQuery
	}
	if r.Path == "" || r.Path[0] != '/' {
		r.Path = "/"
	}
	for _, name := range s.sent {
		for v := range x.Request.Header.Values(name) {
			r.Header.Add(name, v)
		}
	}
	r.Header.Set("X-Forwarded-Method", x.Request.Method)
	target := x.Request.Path
	if x.Request.HasQuery {
		target += "?" + x.Request.RawQuery
	}
	r.Header.Set("X-Forwarded-Uri", target)
	if s.maxBody > 0 && x.RPC == exchange.NoRPC {
		body, err := x.ReadBody(s.maxBody)
		var why *fault.Error
		if errors.As(err, &why) {
			return nil, &errClient{why}
		} else if err != nil {
			return nil, &errClient{&fault.Error{Code: fault.BadRequest, Reason: "the request's body broke off"}}
		}
		r.Body = body
		if v, ok := x.Request.Header.Known(exchange.ContentType); ok {
			r.Header.Set("Content-Type", v)
		}
	}
	ctx, stop := x.Context()
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	begun := time.Now()
	res, err := s.service.Do(ctx, x, r)
	s.count.asked(time.Since(begun))
	if err != nil {
		return nil, err
	}
	return &answer{res, s.principalOf(res)}, nil
}

// apply lets the request pass, or makes the answer the client's.
func (s *step) apply(x *exchange.Exchange, a *answer) exchange.Verdict {
	if !a.passes() {
		if a.response.Status/100 == 5 {
			s.count.failed.Add(1)
			if s.allows {
				s.drop(x)
				return exchange.Continue
			}
		} else {
			s.count.denied.Add(1)
		}
		s.refuse(x, a.response)
		return exchange.Stop
	}
	s.count.allowed.Add(1)
	for _, name := range s.taken {
		first := true
		for v := range a.response.Header.Values(name) {
			if first {
				x.Request.Header.Set(name, v)
			} else {
				x.Request.Header.Add(name, v)
			}
			first = false
		}
		if first {
			x.Request.Header.Del(name)
		}
	}
	if a.principal != nil {
		x.Principal = a.principal
	}
	return exchange.Continue
}

// refuse makes a response the client's. Calls of gRPC get a status instead.
func (s *step) refuse(x *exchange.Exchange, res *subrequest.Response) {
	if x.RPC != exchange.NoRPC {
		code := fault.Forbidden
		switch {
		case res.Status == 401:
			code = fault.Unauthenticated
		case res.Status/100 == 5:
			code = fault.UpstreamUnavailable
		}
		x.Fail(code, "the service that decides about requests has refused this one")
		return
	}
	x.Answer(res.Status, "", res.Body)
	for name, value := range res.Header.All() {
		known := exchange.KnownName(name)
		if known.Answered() || known == exchange.Date || known == exchange.Via {
			continue
		}
		x.Response.Header.Add(name, value)
	}
}

// failed is what becomes of a request that could not be asked about.
func (s *step) failed(x *exchange.Exchange, err error) exchange.Verdict {
	if x.Down != nil && x.Down.Gone() {
		x.Fail(fault.ClientClosed, "the client broke off")
		return exchange.Stop
	}
	var client *errClient
	if errors.As(err, &client) {
		x.Fail(client.why.Code, client.why.Reason)
		return exchange.Stop
	}
	s.count.failed.Add(1)
	switch {
	case s.allows:
		s.drop(x)
		return exchange.Continue
	}
	x.FailStatus(fault.UpstreamUnavailable, 503, "the service that decides about requests did not answer")
	return exchange.Stop
}

// drop removes what only the service may say.
func (s *step) drop(x *exchange.Exchange) {
	for _, name := range s.taken {
		x.Request.Header.Del(name)
	}
}

func (s *step) principalOf(res *subrequest.Response) *exchange.Principal {
	if s.principal == nil || res.Status/100 != 2 {
		return nil
	}
	p := &exchange.Principal{Consumer: res.Header.Get(s.principal.GetConsumer())}
	if name := s.principal.GetGroups(); name != "" {
		for v := range res.Header.Values(name) {
			p.Groups = append(p.Groups, strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })...)
		}
	}
	if name := s.principal.GetScopes(); name != "" {
		for v := range res.Header.Values(name) {
			p.Scopes = append(p.Scopes, strings.Fields(v)...)
		}
	}
	return p
}
