// Package compress is the middleware type "compress": it encodes the bodies of responses in a content coding that the
// client accepts.
package compress

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/coding"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// defaultMinBytes is the least length of a body that is encoded, where nothing else is said: what is shorter fits in
// one packet as it is.
const defaultMinBytes = 1024

// maxInLoop is the longest body that is encoded where other connections wait meanwhile: gzip takes some 30
// microseconds for it, br 200.
const maxInLoop = 8 << 10

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.Compress)
	if !ok {
		return nil, fmt.Errorf("compress: settings are a %T", settings)
	}
	s := &step{minBytes: defaultMinBytes}
	var err error
	if s.codings, err = coding.List(m.GetAlgorithms()); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if m.MinBytes != nil {
		s.minBytes = int64(m.GetMinBytes())
	}
	types := m.GetTypes()
	if len(types) == 0 {
		types = defaultTypes[:]
	}
	for _, t := range types {
		s.types = append(s.types, compileRange(t))
	}
	s.metrics = coding.NewMetrics(env.Metrics, "responses", "encoded", s.codings)
	if s.kept, err = live.Keep(env.Live, env.Name, newTags); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	s.tags = s.kept.Value()
	return s, nil
}

type step struct {
	codings  []exchange.Coding // in the order of preference
	types    []mediaRange
	minBytes int64
	tags     *tags // of kept
	kept     *live.Ref[*tags]
	metrics  *coding.Metrics
}

// Request reads what the client accepts, before a later step can take it out so that the service answers plain, and
// brings validators into a form that the service knows.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	if x.RPC == exchange.NoRPC {
		x.Accepts = x.Request.Header.AcceptedCodings()
		s.tags.translate(x)
	}
	return exchange.Continue
}

// Response stands between, where the response might be encoded. What is done is decided when the head is sent: until
// then steps that come after this one, and pages of errors, may change it.
func (s *step) Response(x *exchange.Exchange) {
	if x.Response.Local || x.Response.Status == 304 || s.eligible(x) {
		stand(x, s)
	}
}

// WorksOn implements pipeline.Worker.
func (s *step) WorksOn(x *exchange.Exchange, bytes int) bool {
	return bytes > maxInLoop && s.eligible(x) && x.Accepts.Choose(s.codings) != exchange.Identity
}
