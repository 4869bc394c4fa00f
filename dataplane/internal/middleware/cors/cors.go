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
	"gateway.internal/dataplane/internal/origin"
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
		origins:     origin.Compile(s.GetAllowOrigins()),
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
	return c, nil
}

type step struct {
	origins     origin.Set
	methods     string
	headers     string
	anyHeader   bool
	expose      string
	credentials bool
	maxAge      string
	private     bool
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
	if !c.origins.Has(from) {
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
	if !c.origins.Any() || c.credentials {
		x.Vary("Origin")
	}
	from, ok := x.Request.Header.Known(exchange.Origin)
	if !ok || !c.origins.Has(from) {
		return
	}
	if c.origins.Any() && !c.credentials {
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
