// Package errorpage shows clients the gateway's errors as a policy says, in the media type that they like best. It does
// not know when an error is sent.
package errorpage

import (
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/variables"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/template"
)

// Pages are the compiled entries of some policies. They are immutable; nil has none.
type Pages struct{ entries []entry }

type entry struct {
	codes    []fault.Code
	statuses []string
	bodies   []body
}

type body struct {
	mediaType   string // without parameters, in lower case
	contentType string
	text        *variables.Text // nil: the gateway's own JSON
	escape      func(b []byte, value string) []byte
}

// Compile compiles what policies say of errors, the first of which goes before the others. Policies may be nil.
func Compile(policies ...*configv1.Policy) (*Pages, error) {
	p := &Pages{}
	for _, policy := range policies {
		for _, m := range policy.GetErrors() {
			e := entry{statuses: m.GetStatuses()}
			for _, code := range m.GetCodes() {
				e.codes = append(e.codes, fault.Code(code))
			}
			for _, b := range m.GetBodies() {
				compiled, err := compileBody(b)
				if err != nil {
					return nil, fmt.Errorf("errors of policy %s: %w", policy.GetName(), err)
				}
				e.bodies = append(e.bodies, compiled)
			}
			p.entries = append(p.entries, e)
		}
	}
	if len(p.entries) == 0 {
		return nil, nil //nolint:nilnil // no pages are valid pages
	}
	return p, nil
}

func compileBody(m *configv1.ErrorBody) (body, error) {
	mediaType, parameters, err := mime.ParseMediaType(m.GetContentType())
	if err != nil {
		return body{}, fmt.Errorf("content_type %q: %w", m.GetContentType(), err)
	}
	b := body{mediaType: mediaType, contentType: m.GetContentType()}
	kind := config.MediaKindOf(mediaType)
	if _, said := parameters["charset"]; !said && (kind == config.MarkupMedia || strings.HasPrefix(mediaType, "text/")) {
		b.contentType += "; charset=utf-8"
	}
	if m.GetBody() == "" {
		return b, nil
	}
	switch kind {
	case config.JSONMedia:
		b.escape = appendJSON
	case config.MarkupMedia:
		b.escape = appendMarkup
	default:
		b.escape = appendPlain
	}
	b.text, err = variables.Compile(m.GetBody(), template.InError)
	return b, err
}

// Apply makes an error of the gateway that is the exchange's response what the pages say. Everything else, and what
// clients of gRPC get, stays.
func (p *Pages) Apply(x *exchange.Exchange) {
	res := &x.Response
	if p == nil || !res.Local || res.Code == "" || x.RPC != exchange.NoRPC {
		return
	}
	i := slices.IndexFunc(p.entries, func(e entry) bool { return e.matches(res.Code, res.Status) })
	if i < 0 {
		return
	}
	e := &p.entries[i]
	b := e.choose(&x.Request.Header)
	if len(e.bodies) > 1 {
		x.Vary("Accept")
	}
	if b.text == nil {
		return
	}
	start := len(x.Texts)
	x.Texts = b.text.Append(x.Texts, x, b.escape)
	res.Body = x.Texts[start:]
	res.ContentLength = int64(len(res.Body))
	res.Header.Set("Content-Type", b.contentType)
	res.Header.Set("X-Content-Type-Options", "nosniff") // what a client has sent may be in it
}

func (e *entry) matches(code fault.Code, status int) bool {
	if len(e.codes) == 0 && len(e.statuses) == 0 || slices.Contains(e.codes, code) {
		return true
	}
	var digits [3]byte
	text := strconv.AppendInt(digits[:0], int64(status), 10)
	for _, s := range e.statuses {
		if s[0] == text[0] && (s[1:] == "xx" || s == string(text)) {
			return true
		}
	}
	return false
}

// choose returns the body that a client likes best.
func (e *entry) choose(h *exchange.Header) *body {
	best, most := &e.bodies[0], 0
	if len(e.bodies) == 1 {
		return best
	}
	for i := range e.bodies {
		if q := quality(h, e.bodies[i].mediaType); q > most {
			best, most = &e.bodies[i], q
		}
	}
	return best
}
