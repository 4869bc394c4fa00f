package proxy

import (
	"strings"
	"testing"
	"unsafe"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

// poison is a string that can't be read: codecs panic as they write it.
func poison() (s string) {
	*(*struct {
		at    uintptr
		bytes int
	})(unsafe.Pointer(&s)) = struct {
		at    uintptr
		bytes int
	}{1, 5}
	return s
}

// poisoning is a step that puts a field into a request, or a response, that can't be written.
type poisoning struct{ hedged }

func (p *poisoning) Request(x *exchange.Exchange) exchange.Verdict {
	if x.Request.Path == "/request" {
		x.Request.Header.Append(exchange.Field{Name: "poison", Value: poison()})
	}
	return exchange.Continue
}

func (p *poisoning) Response(x *exchange.Exchange) {
	if x.Request.Path == "/response" && !x.Response.Local {
		x.Response.Header.Append(exchange.Field{Name: "poison", Value: poison()})
	}
}

// TestPanicsInWriting has codecs panic as they write a request to a service, or a response to a client: nothing has
// been sent, and the client gets 500.
func TestPanicsInWriting(t *testing.T) {
	for _, of := range []string{"request", "response"} {
		for name, retries := range map[string]*config.Retries{"the only attempt": nil, "two attempts": soon} {
			t.Run(of+", "+name, func(t *testing.T) {
				eachPair(t, func(t *testing.T, version, protocol string) {
					r := startRaceThrough(t, version, protocol, retries, &poisoning{})
					if got := waittest.Receive(t, "the response", r.ask("GET", "/next/", nil)); got.text != "200 /next/" {
						t.Fatalf("the one before got %+v", got)
					}
					before := len(r.calls)
					got := r.ask("GET", "/"+of, nil)
					if of == "response" {
						r.call("the request").answer <- "one"
					}
					if a := waittest.Receive(t, "the response", got); !strings.HasPrefix(a.text, "500") || a.rivals > 0 {
						t.Errorf("the client got %+v, and %d requests were sent before", a, before)
					}
					r.over()
					want := 1.0
					if of == "request" && retries != nil {
						// One in each attempt. Where the first one is over at once, there is no second one.
						want = r.outcomes()["failed"]
					}
					if n := r.panics(); n != want || n < 1 {
						t.Errorf("%v panics were counted, want %v", n, want)
					}
					if n := strings.Count(r.log.String(), "panicked"); float64(n) != want {
						t.Errorf("%d lines:\n%s", n, r.log)
					}
				})
			})
		}
	}
}
