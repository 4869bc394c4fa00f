// Package requestvalidation is the middleware type "request_validation": it refuses requests that are not as they are
// described.
package requestvalidation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/middleware"
	"gateway.internal/shared/validation"
)

const (
	defaultBodyBytes = 1 << 20
	defaultValues    = 20_000
)

// New returns the step for settings.
func New(settings proto.Message, env *pipeline.Environment) (pipeline.Step, error) {
	m, ok := settings.(*middlewarev1.RequestValidation)
	if !ok {
		return nil, fmt.Errorf("request_validation: settings are a %T", settings)
	}
	s := &step{
		most: int(cmp.Or(m.GetMaxBodyBytes(), defaultBodyBytes)), report: m.GetMode() == "report",
		bounds:  validation.Bounds{Depth: validation.MaxDepth, Values: int(cmp.Or(m.GetMaxValues(), defaultValues))},
		unknown: m.GetUnknown() != "pass",
	}
	var err error
	if s.schema, err = middleware.CompileSchema(m); err == nil {
		s.document, err = middleware.CompileDocument(m)
	}
	if err != nil {
		return nil, fmt.Errorf("request_validation: %w", err)
	}
	results := func(result string) *telemetry.Counter {
		return env.Metrics.Counter("requests_total",
			"Requests that were looked at: valid, invalid, unsupported for their media type, too_large, unknown to the "+
				"document, or unseen, where the body was not looked at.", "result", result)
	}
	s.valid, s.invalid, s.unsupported = results("valid"), results("invalid"), results("unsupported")
	s.tooLarge, s.unheard, s.unseen = results("too_large"), results("unknown"), results("unseen")
	return s, nil
}

type step struct {
	schema   *validation.Schema   // nil: there is a document
	document *validation.Document // nil: there is a schema
	most     int
	bounds   validation.Bounds
	report   bool
	unknown  bool // what the document does not have is refused

	valid, invalid, unsupported, tooLarge, unheard, unseen *telemetry.Counter
}

// Response implements pipeline.Step.
func (*step) Response(*exchange.Exchange) {}

// Request looks at a request. It reads the body where that is described, and waits for it; bodies are never looked at
// in a loop, since that may take long.
func (s *step) Request(x *exchange.Exchange) exchange.Verdict {
	var op *validation.Operation
	var list []validation.Violation
	if s.document != nil {
		found, params, known, allow := s.document.Find(x.Request.Method, x.Request.Path)
		if found == nil {
			return s.none(x, known, allow)
		}
		op = found
		list = op.Check(&validation.Request{Query: x.Request.RawQuery, Header: values(x)}, params)
	}
	media, plain := mediaOf(x)
	content, required := s.content(x, op, media, plain)
	switch {
	case x.Request.ContentLength == 0:
		if required {
			list = append(list, validation.Violation{In: "body", Detail: "is required"})
		}
		return s.decide(x, list, s.valid)
	case content == validation.Unsupported:
		return s.refuse(x, s.unsupported, fault.BadRequest, 415, "this media type, charset or content coding is not "+
			"supported", nil)
	case content == validation.Absent && x.Request.ContentLength > 0:
		list = append(list, validation.Violation{In: "body", Detail: "is not expected"})
		return s.decide(x, list, s.valid)
	case content == validation.Unseen:
		return s.decide(x, list, s.unseen)
	}
	return s.read(x, op, media, content, list, required)
}

// content returns what becomes of the body of a request, and whether there has to be one.
func (s *step) content(
	x *exchange.Exchange, op *validation.Operation, media string, plain bool,
) (c validation.Content, required bool) {
	if op != nil {
		c = op.Content(media)
		if c == validation.Seen && !plain {
			c = validation.Unsupported
		}
		return c, op.NeedsBody()
	}
	required = !slices.Contains([]string{"GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"}, x.Request.Method)
	if !plain || media != "application/json" && !strings.HasSuffix(media, "+json") {
		return validation.Unsupported, required
	}
	return validation.Seen, required
}

// read reads the body and decides.
func (s *step) read(
	x *exchange.Exchange, op *validation.Operation, media string, content validation.Content, list []validation.Violation,
	required bool,
) exchange.Verdict {
	most := s.most
	if s.report && (x.Request.ContentLength < 0 || x.Request.ContentLength > int64(most)) {
		return s.decide(x, list, s.unseen) // what is too long could not be given back
	}
	if x.InLoop {
		return exchange.Later
	}
	body, err := x.ReadBody(most)
	var wrong *fault.Error
	switch {
	case errors.As(err, &wrong) && wrong.Code == fault.RequestTooLarge:
		return s.refuse(x, s.tooLarge, wrong.Code, wrong.Code.HTTP(), wrong.Reason, nil)
	case errors.As(err, &wrong):
		x.Fail(wrong.Code, wrong.Reason)
		return exchange.Stop
	case err != nil:
		x.Fail(fault.ClientClosed, "the client went away before its body was complete")
		return exchange.Stop
	case len(body) == 0 && required:
		list = append(list, validation.Violation{In: "body", Detail: "is required"})
	case len(body) == 0:
	case content == validation.Absent:
		list = append(list, validation.Violation{In: "body", Detail: "is not expected"})
	case op != nil:
		list = append(list, op.CheckBody(media, body, s.bounds)...)
	default:
		v, err := validation.Decode(body, s.bounds)
		if err != nil {
			list = append(list, validation.Violation{In: "body", Detail: "the body " + err.Error()})
			break
		}
		list = append(list, s.schema.Check(v)...)
	}
	return s.decide(x, list, s.valid)
}

// none is what becomes of a request that the document has no operation for.
func (s *step) none(x *exchange.Exchange, known bool, allow string) exchange.Verdict {
	switch {
	case !s.unknown:
		s.unheard.Add(1)
		return exchange.Continue
	case known:
		v := s.refuse(x, s.unheard, fault.MethodNotAllowed, 405, "this path does not have this method", nil)
		if v == exchange.Stop {
			x.Response.Header.Add("Allow", allow) // RFC 9110 section 15.5.6
		}
		return v
	}
	return s.refuse(x, s.unheard, fault.RouteNotFound, 404, "no operation has this path", nil)
}

// decide refuses a request with violations, and counts others.
func (s *step) decide(x *exchange.Exchange, list []validation.Violation, passed *telemetry.Counter) exchange.Verdict {
	if len(list) > 0 {
		return s.refuse(x, s.invalid, fault.BadRequest, 400, "the request is not as it is described", list)
	}
	passed.Add(1)
	return exchange.Continue
}

func (s *step) refuse(
	x *exchange.Exchange, as *telemetry.Counter, code fault.Code, status int, detail string, list []validation.Violation,
) exchange.Verdict {
	as.Add(1)
	if s.report {
		return exchange.Continue
	}
	problem(x, code, status, detail, list)
	return exchange.Stop
}

// mediaOf returns the media type of the body; plain is false where there are two, another charset than UTF-8, or a
// content coding that would have to be taken off first.
func mediaOf(x *exchange.Exchange) (media string, plain bool) {
	said := 0
	plain = true
	for v := range x.Request.Header.Values("Content-Type") {
		said++
		name, params, _ := strings.Cut(v, ";")
		media = strings.ToLower(strings.TrimSpace(name))
		for p := range strings.SplitSeq(params, ";") {
			p = strings.ToLower(strings.TrimSpace(p))
			if strings.Contains(p, "charset") && p != "charset=utf-8" && p != `charset="utf-8"` {
				plain = false // services may read more into spaces, quotes and "charset*" than there should be
			}
		}
	}
	for v := range x.Request.Header.Values("Content-Encoding") {
		plain = plain && exchange.EqualFold(strings.TrimSpace(v), "identity")
	}
	return media, plain && said < 2
}

func values(x *exchange.Exchange) func(string) []string {
	return func(name string) []string { return slices.Collect(x.Request.Header.Values(name)) }
}
