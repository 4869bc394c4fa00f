// Package cors is the middleware type "cors": it answers preflights and marks responses by the Fetch standard's CORS
// protocol.
package cors

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// New returns the step for settings.
func New(settings proto.Message, _ *pipeline.Environment) (pipeline.Step, error) {
	s, ok := settings.(*middlewarev1.Cors)
	if !ok {
		return nil, fmt.Errorf("cors: settings are a %T", settings)
	}
	c := &step{
		methods:     strings.Join(s.GetAllowMethods(), ", "),
		headers:     strings.Join(s.GetAllowHeaders(), ", "),
		expose:      strings.Join(s.GetExposeHeaders(), ", "),
		credentials: s.GetAllowCredentials(),
		private:     s.GetAllowPrivateNetwork(),
	}
	for _, h := range s.GetAllowHeaders() {
		c.anyHeader = c.anyHeader || h == "*"
	}
	if s.GetMaxAge() != "" {
		d, err := time.ParseDuration(s.GetMaxAge())
		if err != nil {
			return nil, fmt.Errorf("cors: max_age: %w", err)
		}
		c.maxAge = strconv.Itoa(int(d / time.Second))
	}
	for _, o := range s.GetAllowOrigins() {
		if o == "*" {
			c.any = true
			continue
		}
		scheme, host, _ := strings.Cut(strings.ToLower(o), "://")
		rest, wildcard := strings.CutPrefix(host, "*.")
		if wildcard {
			c.origins = append(c.origins, origin{scheme + "://", "." + rest})
		} else {
			c.origins = append(c.origins, origin{scheme + "://" + host, ""})
		}
	}
	return c, nil
}

type step struct {
	any         bool
	origins     []origin
	methods     string
	headers     string
	anyHeader   bool
	expose      string
	credentials bool
	maxAge      string
	private     bool
}

// origin is exact, or the part before and after one or more labels.
type origin struct{ head, tail string }

func (o origin) matches(s string) bool {
	if o.tail == "" {
		return exchange.EqualFold(s, o.head)
	}
	if len(s) <= len(o.head)+len(o.tail) || !exchange.EqualFold(s[:len(o.head)], o.head) || !exchange.EqualFold(s[len(s)-len(o.tail):], o.tail) {
		return false
	}
	for _, c := range []byte(s[len(o.head) : len(s)-len(o.tail)]) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func (c *step) allowed(s string) bool {
	if c.any {
		return true
	}
	for i := range c.origins {
		if c.origins[i].matches(s) {
			return true
		}
	}
	return false
}

// Request answers preflights: OPTIONS with Origin and Access-Control-Request-Method.
func (c *step) Request(x *exchange.Exchange) exchange.Verdict {
	if x.Request.Method != "OPTIONS" {
		return exchange.Continue
	}
	from, ok := x.Request.Header.Known(exchange.Origin)
	if _, preflight := x.Request.Header.Lookup("Access-Control-Request-Method"); !ok || !preflight {
		return exchange.Continue
	}
	x.Answer(204, "", nil)
	if !c.allowed(from) {
		return exchange.Stop // without allowances the browser refuses
	}
	h := &x.Response.Header
	switch {
	case c.methods != "":
		h.Add("Access-Control-Allow-Methods", c.methods)
	case x.RouteMethods != "":
		h.Add("Access-Control-Allow-Methods", x.RouteMethods)
	default:
		h.Add("Access-Control-Allow-Methods", "GET, HEAD, POST")
	}
	if asked, _ := x.Request.Header.Lookup("Access-Control-Request-Private-Network"); c.private && asked == "true" {
		h.Add("Access-Control-Allow-Private-Network", "true")
	}
	if asked, ok := x.Request.Header.Lookup("Access-Control-Request-Headers"); ok && c.anyHeader {
		h.Add("Access-Control-Allow-Headers", asked)
	} else if !c.anyHeader && c.headers != "" {
		h.Add("Access-Control-Allow-Headers", c.headers)
	}
	if c.maxAge != "" {
		h.Add("Access-Control-Max-Age", c.maxAge)
	}
	return exchange.Stop
}

// Response marks the response, whoever made it: a script may read a refusal too.
func (c *step) Response(x *exchange.Exchange) {
	h := &x.Response.Header
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Allow-Credentials")
	if !c.any || c.credentials {
		x.Vary("Origin")
	}
	from, ok := x.Request.Header.Known(exchange.Origin)
	if !ok || !c.allowed(from) {
		return
	}
	if c.any && !c.credentials {
		h.Add("Access-Control-Allow-Origin", "*")
	} else {
		h.Add("Access-Control-Allow-Origin", from)
	}
	if c.credentials {
		h.Add("Access-Control-Allow-Credentials", "true")
	}
	if c.expose != "" && x.Request.Method != "OPTIONS" {
		h.Set("Access-Control-Expose-Headers", c.expose)
	}
}
