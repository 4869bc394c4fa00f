package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/dataplane/internal/runtime"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/explain"
	"gateway.internal/shared/explain/explaintest"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

// chanceOfTests are the random numbers of nodes that are started while it is set; nil: a node's own.
var chanceOfTests *chance

// oracle is a node with a service of its own for each name, whose random numbers are given.
type oracle struct {
	*gateway
	services map[string]*witness
	compiled *explain.Compiled
	config   *config.Config
	random   atomic.Uint32
	fraction atomic.Uint64 // as bits
	revision uint32
}

// newOracle starts a node; services are the names of all services that its configurations will have.
func newOracle(t *testing.T, services ...string) *oracle {
	t.Helper()
	o := &oracle{services: map[string]*witness{}}
	for _, name := range services { // before the node, whose connections to them end first
		if o.services[name] == nil {
			o.services[name] = newWitness(t)
		}
	}
	chanceOfTests = &chance{
		share:    func(n uint32) uint32 { return o.random.Load() % n },
		fraction: func() float64 { return math.Float64frombits(o.fraction.Load()) },
	}
	defer func() { chanceOfTests = nil }()
	o.gateway = start(t, "")
	return o
}

// run makes a configuration the node's and the one by which is foretold. Services get endpoints that note what they
// see, and middleware but that for CORS notes that it ran.
func (o *oracle) run(c *configv1.Configuration) error {
	for _, s := range c.GetServices() {
		address := netip.MustParseAddrPort(o.services[s.GetName()].address)
		s.Endpoints = []*configv1.Endpoint{{Host: address.Addr().String(), Port: uint32(address.Port())}}
	}
	for _, m := range c.GetMiddleware() {
		if m.GetType() == "cors" {
			continue
		}
		step := object("add", object("X-Step", structpb.NewStringValue(m.GetName())))
		m.Type, m.Config = "headers", object("request", step).GetStructValue()
		m.Config.Fields["response"] = step
	}
	var err error
	if o.config, err = explaintest.Plan(c); err != nil {
		return err
	}
	if o.compiled, err = explain.Compile(o.config, pathnorm.DefaultSettings()); err != nil {
		return err
	}
	o.revision++
	if problems := o.node.Apply(runtime.Version{Epoch: "e", Revision: o.revision, Config: o.config}); len(problems) > 0 {
		return fmt.Errorf("the node refuses it: %v", problems)
	}
	return nil
}

func object(name string, v *structpb.Value) *structpb.Value {
	return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{name: v}})
}

// observed is what a node did.
type observed struct {
	refused  bool // the handshake
	shown    []string
	version  uint16
	response *http.Response
	body     string
	route    string
	service  string
	request  *http.Request // that the service got; nil: none
	mirrored string
}

// send sends a request to the node. mirror is the service that is to get a copy; empty: none.
func (o *oracle) send(h *explain.Head, mirror string) (s observed, err error) {
	o.random.Store(h.Random)
	o.fraction.Store(math.Float64bits(h.Fraction))
	c, err := net.Dial("tcp", o.address)
	if h.Scheme == "https" {
		name, _, _ := strings.Cut(h.Host, ":")
		var secure *tls.Conn
		secure, err = tls.Dial("tcp", o.secure.Addr().String(), &tls.Config{
			ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"},
		})
		if err != nil {
			return observed{refused: true}, nil
		}
		state := secure.ConnectionState()
		s.shown, s.version = state.PeerCertificates[0].DNSNames, state.Version
		c = secure
	}
	if err != nil {
		return s, err
	}
	defer c.Close()
	_ = c.SetDeadline(waittest.Deadline())
	if _, err := io.WriteString(c, textOf(h)); err != nil {
		return s, err
	}
	if s.response, err = http.ReadResponse(bufio.NewReader(c), &http.Request{Method: h.Method}); err != nil {
		return s, err
	}
	if h.Method != "CONNECT" || s.response.StatusCode != 200 {
		raw, err := io.ReadAll(s.response.Body)
		if err != nil {
			return s, err
		}
		s.body = string(raw)
	}
	_ = c.Close() // which ends a tunnel
	waittest.Until(o.t, "the exchange is counted", func() bool {
		report, commit := o.node.Report(false)
		if len(report.GetRoutes()) == 0 {
			return false
		}
		commit(len(report.GetRoutes()))
		if e := o.config.ByID(config.Route, report.GetRoutes()[0].GetRouteId()); e != nil {
			s.route = e.Name()
		}
		if e := o.config.ByID(config.Service, report.GetRoutes()[0].GetServiceId()); e != nil {
			s.service = e.Name()
		}
		return true
	})
	if mirror != "" {
		w := o.services[mirror]
		waittest.Until(o.t, "the mirror's service has the copy", func() bool {
			if w.take() == "" {
				return false
			}
			s.mirrored = mirror
			return true
		})
	}
	for name, w := range o.services {
		text := w.take()
		if text == "" {
			continue
		}
		if name != s.service || s.request != nil {
			return s, fmt.Errorf("service %s got %q, too", name, text)
		}
		if s.request, err = http.ReadRequest(bufio.NewReader(strings.NewReader(text))); err != nil {
			return s, err
		}
	}
	return s, nil
}

// textOf returns a request as it is sent.
func textOf(h *explain.Head) string {
	var b strings.Builder
	target := h.Path
	if h.HasQuery {
		target += "?" + h.RawQuery
	}
	if h.Method == "CONNECT" {
		target = h.Host
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", h.Method, target, h.Host)
	for _, f := range h.Fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	return b.String() + "Connection: close\r\n\r\n"
}

// compare returns how what a node did differs from what was foretold; empty: it does not.
func (o *oracle) compare(h *explain.Head, want *explain.Explanation, s observed) string {
	var wrong []string
	differ := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			wrong = append(wrong, fmt.Sprintf("%s: %v, foretold: %v", what, got, want))
		}
	}
	if want.TLS != nil {
		differ("refused handshake", s.refused, len(want.TLS.Certificates) == 0 || want.TLS.ClientCertificate == "required")
		if s.refused {
			return strings.Join(wrong, "\n")
		}
		of := o.config.ByName(config.Certificate, want.TLS.Certificates[0]).Message.(*configv1.Certificate)
		differ("certificate", s.shown, of.GetHosts())
	}
	differ("route", s.route, want.Route)
	differ("service", s.service, want.Service)
	differ("mirror", s.mirrored, want.Mirror)
	if middlewareAnswers(h, want) {
		differ("request of the service", s.request != nil, false)
		return strings.Join(wrong, "\n")
	}
	steps := stepsOf(want)
	if r := want.Response; r != nil {
		differ("status", s.response.StatusCode, r.Status)
		differ("Location", s.response.Header.Get("Location"), r.Location)
		if r.Allow != "" {
			differ("Allow", s.response.Header.Get("Allow"), r.Allow)
		}
		if !strings.Contains(s.body, string(r.Code)) || !strings.Contains(s.body, r.Reason) {
			differ("error", s.body, string(r.Code)+" "+r.Reason)
		}
		if r.Code == "" && s.response.Request.Method != "HEAD" {
			differ("body", s.body, r.Body)
		}
		slices.Reverse(steps)
		differ("steps of the response", s.response.Header.Values("X-Step"), steps)
	}
	u := want.Upstream
	if u == nil {
		differ("request of the service", s.request != nil, false)
		return strings.Join(wrong, "\n")
	}
	if s.request == nil {
		return strings.Join(append(wrong, "the service got nothing; the client: "+s.response.Status+" "+s.body), "\n")
	}
	host := u.Host
	if u.OwnHost {
		host = o.services[s.service].address
	}
	differ("method", s.request.Method, u.Method)
	differ("target", s.request.RequestURI, u.Target)
	differ("Host", s.request.Host, host)
	differ("X-Forwarded-Prefix", s.request.Header.Get("X-Forwarded-Prefix"), u.Prefix)
	differ("Set-Cookie", s.response.Header.Get("Set-Cookie"), want.SetCookie)
	differ("steps", s.request.Header.Values("X-Step"), steps)
	return strings.Join(wrong, "\n")
}

// middlewareAnswers reports whether a middleware answers, which is not foretold: one for CORS does so to a preflight.
func middlewareAnswers(h *explain.Head, e *explain.Explanation) bool {
	_, from := h.Lookup("Origin")
	_, asks := h.Lookup("Access-Control-Request-Method")
	return h.Method == "OPTIONS" && from && asks && slices.ContainsFunc(e.Pipelines, func(p explain.Pipeline) bool {
		return slices.ContainsFunc(p.Steps, func(s explain.Step) bool { return s.Type == "cors" })
	})
}

// stepsOf returns the names of the middleware that notes that it ran.
func stepsOf(e *explain.Explanation) (names []string) {
	for _, p := range e.Pipelines {
		for _, s := range p.Steps {
			if s.Type == "headers" {
				names = append(names, s.Name)
			}
		}
	}
	return names
}

// TestDoesWhatIsForetold sends the requests of the golden files through a node: it does what they say.
func TestDoesWhatIsForetold(t *testing.T) {
	scenarios := explaintest.Scenarios(t, "../../../shared/explain/testdata")
	var services []string
	for _, s := range scenarios {
		for _, service := range s.Configuration.GetServices() {
			services = append(services, service.GetName())
		}
	}
	o := newOracle(t, services...)
	for _, s := range scenarios {
		if err := o.run(s.Configuration); err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		for i := range s.Cases {
			c := &s.Cases[i]
			did, err := o.send(c.Head(t), c.Result.Mirror)
			if err != nil {
				t.Errorf("%s, %s: %v", s.Name, c.Request, err)
				continue
			}
			if wrong := o.compare(c.Head(t), &c.Result, did); wrong != "" {
				t.Errorf("%s, %s:\n%s", s.Name, c.Request, wrong)
			}
		}
	}
}
