// Package extauth is the middleware type "ext_auth": another service decides whether a request may pass.
package extauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
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
		allows: m.GetOnError() == "allow", maxBody: int(m.GetMaxBodyBytes()),
		principal: m.GetPrincipal(), facts: m.GetFacts(),
		calls: m.GetProtocol() == "grpc", extensions: m.GetContextExtensions(), passed: exchange.FactKey[*answer](env.Name),
		log: env.Log,
	}
	if len(s.sent) == 0 && !s.calls {
		s.sent = []string{"Authorization", "Cookie"}
	}
	if t := m.GetTimeout(); t != "" {
		var err error
		if s.timeout, err = time.ParseDuration(t); err != nil {
			return nil, fmt.Errorf("ext_auth: timeout: %w", err)
		}
	}
	if s.service = env.Service(m.GetServiceId()); s.service == nil {
		return nil, fmt.Errorf("ext_auth: there is no service %s", m.GetServiceId())
	}
	s.count = newCounters(env.Metrics)
	var err error
	s.keeps, err = newKeeping(m, s.sent, env)
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
	facts     map[string]string // fields of answers, by the names of facts
	// calls tells that it is asked by gRPC, with extensions besides.
	calls      bool
	extensions map[string]string
	keeps      *keeping // nil: nothing
	// passed is the answer that an exchange has passed by, where it has something to do with the response.
	passed exchange.FactKey[*answer]
	count  counters
	log    *slog.Logger
	// silent tells that the last question had no answer: said once.
	silent atomic.Bool
}

// Request implements pipeline.Step.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	var key answerKey
	if s.keeps != nil {
		key = s.keeps.key(x)
		if a := s.keeps.get(key); a != nil {
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
	if s.silent.Load() && s.silent.CompareAndSwap(true, false) && s.log != nil {
		s.log.Info("the service that decides about requests answers again", "service", s.service.Name())
	}
	if s.keeps != nil {
		s.keeps.put(key, a)
	}
	return s.apply(x, a)
}

// Response implements pipeline.Step.
func (s *step) Response(x *exchange.Exchange) {
	if a, found := s.passed.Of(x); found {
		for i := range a.response {
			a.response[i].apply(&x.Response.Header)
		}
	}
}

// errClient is of a request whose own body is what is wrong.
type errClient struct{ why *fault.Error }

func (e *errClient) Error() string { return e.why.Reason }

func (s *step) ask(x *exchange.Exchange) (*answer, error) {
	body, err := s.bodyOf(x)
	if err != nil {
		return nil, err
	}
	ctx, stop := x.Context()
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	begun := time.Now()
	defer func() { s.count.asked.Observe(time.Since(begun)) }()
	if s.calls {
		return s.askGRPC(ctx, x, body)
	}
	return s.askHTTP(ctx, x, body)
}

// bodyOf waits for the request's body, where it is sent along.
func (s *step) bodyOf(x *exchange.Exchange) ([]byte, error) {
	if s.maxBody == 0 || x.RPC != exchange.NoRPC {
		return nil, nil
	}
	body, err := x.ReadBody(s.maxBody)
	var why *fault.Error
	switch {
	case errors.As(err, &why):
		return nil, &errClient{why}
	case err != nil:
		return nil, &errClient{&fault.Error{Code: fault.BadRequest, Reason: "the request's body broke off"}}
	case body == nil:
		body = []byte{}
	}
	return body, nil
}

// failed is what becomes of a request that could not be asked about.
func (s *step) failed(x *exchange.Exchange, err error) exchange.Verdict {
	var client *errClient
	switch {
	case x.ClientGone():
		s.count.cancelled.Add(1)
		x.Fail(fault.ClientClosed, "the client broke off")
		return exchange.Stop
	case x.Refused():
		s.count.cancelled.Add(1)
		x.Fail(fault.Forbidden, "another step has refused the request")
		return exchange.Stop
	case errors.As(err, &client):
		x.Fail(client.why.Code, client.why.Reason)
		return exchange.Stop
	}
	s.count.failed.Add(1)
	if s.silent.CompareAndSwap(false, true) && s.log != nil {
		s.log.Warn("the service that decides about requests can't say", "service", s.service.Name(), "error", err.Error())
	}
	if s.allows {
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
