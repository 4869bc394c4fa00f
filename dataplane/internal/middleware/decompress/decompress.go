// Package decompress is the middleware type "decompress": it decodes the bodies of requests that have a content
// coding, within bounds.
package decompress

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/coding"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
)

const (
	defaultMaxBytes = 64 << 20
	defaultMaxRatio = 100
	// freeBytes is how much may be decoded whatever the ratio: short bodies that repeat themselves have high ones.
	freeBytes = 64 << 10
	// maxCodings is how many codings a body may have, one within the other: each multiplies what a byte costs.
	maxCodings = 2
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.Decompress)
	if !ok {
		return nil, fmt.Errorf("decompress: settings are a %T", settings)
	}
	s := &step{maxBytes: defaultMaxBytes, maxRatio: defaultMaxRatio}
	var err error
	if s.codings, err = coding.List(m.GetAlgorithms()); err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	s.metrics = newMetrics(env.Metrics, s.codings)
	if m.GetMaxBytes() > 0 {
		s.maxBytes = m.GetMaxBytes()
	}
	if m.GetMaxRatio() > 0 {
		s.maxRatio = int64(m.GetMaxRatio())
	}
	s.tooLarge = &fault.Error{
		Code:   fault.RequestTooLarge,
		Reason: fmt.Sprintf("the body has more than %d bytes when it is decoded", s.maxBytes),
	}
	s.tooDense = &fault.Error{
		Code:   fault.BadRequest,
		Reason: fmt.Sprintf("the body is more than %d times as large when it is decoded as it was sent", s.maxRatio),
	}
	return s, nil
}

type step struct {
	codings            []exchange.Coding
	maxBytes, maxRatio int64
	tooLarge, tooDense *fault.Error
	metrics            *metrics
}

// Request stands between where the body has codings that are all decoded.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	req := &x.Request
	var list [maxCodings]exchange.Coding
	n, decodes := 0, false
	fields := req.Header.Fields()
	for i := range fields {
		f := &fields[i]
		if len(f.Name) != len("Content-Encoding") || !exchange.EqualFold(f.Name, "Content-Encoding") {
			continue
		}
		for rest, more := f.Value, true; more; {
			var name string
			name, rest, more = strings.Cut(rest, ",")
			if name = strings.Trim(name, " \t"); name == "" {
				continue
			}
			c, known := exchange.CodingOf(name)
			if known && c == exchange.Identity {
				continue
			}
			if !known || !slices.Contains(s.codings, c) {
				return exchange.Continue // the service may know what to do with it
			}
			if decodes = true; n < maxCodings {
				list[n] = c
			}
			n++
		}
	}
	switch {
	case !decodes, x.RPC != exchange.NoRPC, req.Upgrade != "":
		return exchange.Continue
	case x.BodyLimit >= 0 && req.ContentLength > x.BodyLimit:
		return exchange.Continue // it is refused as it is
	case n > maxCodings:
		s.metrics.refuse(malformed)
		x.Fail(fault.BadRequest, fmt.Sprintf("the body has more than %d content codings", maxCodings))
		return exchange.Stop
	}
	req.Header.Del("Content-Encoding")
	coding.DropDigests(&req.Header)
	if req.ContentLength != 0 {
		req.ContentLength = -1
		d := downs.Get().(*down)
		*d = down{Downstream: x.Down, step: s, x: x, codings: list, n: n, limit: x.BodyLimit}
		x.Down = d
	}
	return exchange.Continue
}

// Response does nothing.
func (s *step) Response(*exchange.Exchange) {}

// End implements pipeline.Ender. It gives back what decodes a body that was not read to its end.
func (s *step) End(x *exchange.Exchange, _ *pipeline.Outcome) {
	if d, is := x.Down.(*down); is && d.step == s {
		x.Down = d.Downstream
		_ = d.end(io.ErrUnexpectedEOF)
		*d = down{}
		downs.Put(d)
	}
}
