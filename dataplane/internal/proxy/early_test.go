package proxy

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/codec"
)

// What clients and services speak.
var (
	clientKinds  = []string{"h1", "h1s", "h2", "h2s"}
	serviceKinds = []string{"h1", "h1s", "h2", "h2s"}
)

// everyUpload makes each way of answering early meet each form of an upload; otherwise they meet some in turn.
var everyUpload = flag.Bool("every-upload", false, "try each form of an upload with each way of answering it early: minutes")

// earlyNode starts a node before services of all kinds that answer early.
func earlyNode(t *testing.T) (g *gateway, ca *authority) {
	ca = newAuthority(t)
	cert, key, pair := ca.issue("a.example")
	secure := func(protocol string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{protocol}}
	}
	config := "services:\n"
	service := func(name, protocol, address string) {
		host, port, _ := net.SplitHostPort(address)
		settings := ""
		if protocol == "https" {
			settings = ", tls: {insecure_skip_verify: true, http2: " + fmt.Sprint(strings.HasPrefix(name, "h2s")) + "}"
		}
		config += fmt.Sprintf("  - {name: %s, protocol: %s, endpoints: [{host: %s, port: %s}], connection_pool: {response_timeout: 30s, connect_timeout: 30s}%s}\n", name, protocol, host, port, settings)
	}
	for _, client := range clientKinds { // each has services of its own: one that ends a connection ends what others have on it
		service("h1-"+client, "http", refusingHTTP1(t, nil))
		service("h2-"+client, "h2c", newRefusingHTTP2(t, nil))
		service("h1s-"+client, "https", refusingHTTP1(t, secure("http/1.1")))
		service("h2s-"+client, "https", newRefusingHTTP2(t, secure("h2")))
	}
	service("h1", "http", refusingHTTP1(t, nil))
	config += `policies:
  - {name: large, max_request_bytes: 100000000}
  - {name: small, max_request_bytes: 1000}
middleware: [{name: nobody, type: ip_restriction, order: 1, config: {deny: ["0.0.0.0/0"]}}]
pipelines: [{name: closed, middleware_ids: [nobody]}]
routes:
  - {name: small, path: /small/*, service_id: h1, policy_id: small}
  - {name: forbidden, path: /forbidden/*, service_id: h1, pipeline_id: closed}
`
	route := func(name string) {
		config += fmt.Sprintf("  - {name: %s, path: /%s/*, service_id: %s, policy_id: large}\n", name, name, name)
	}
	route("h1")
	for _, client := range clientKinds {
		for _, service := range serviceKinds {
			route(service + "-" + client)
		}
	}
	g = startWith(t, codec.DefaultLimits(), config+"certificates:\n"+certificateOf("a", cert, key, ""))
	return g, ca
}

// kinds returns the clients.
func (g *gateway) kinds(ca *authority) map[string]early {
	secure := func(protocol string) *tls.Config {
		return &tls.Config{RootCAs: ca.Pool(), ServerName: "a.example", NextProtos: []string{protocol}}
	}
	two, twoTLS := newMultiplexing(g.address, nil), newMultiplexing(g.secure.Addr().String(), secure("h2"))
	g.t.Cleanup(two.client.CloseIdleConnections)
	g.t.Cleanup(twoTLS.client.CloseIdleConnections)
	return map[string]early{
		"h1": &blind{address: g.address}, "h1s": &blind{g.secure.Addr().String(), secure("http/1.1")}, "h2": two, "h2s": twoTLS,
	}
}

// uploads returns forms of an upload to a path, in each size: with its length or in chunks, with 100 (Continue) or
// without.
func uploads(path string, turn *int) (all []uploaded) {
	for _, bytes := range uploadSizes {
		for form := range 4 {
			if *everyUpload || form == *turn%4 {
				all = append(all, uploaded{path, bytes, form&1 != 0, form&2 != 0})
			}
		}
		*turn++
	}
	*turn++
	return all
}

// refusals returns every way in which a service may answer early.
func refusals(ends ...string) (all []refusal) {
	for _, end := range ends {
		for _, after := range []int{0, 100 << 10} {
			for _, streamed := range []bool{false, true} {
				all = append(all, refusal{after, streamed, end})
			}
		}
	}
	return all
}

// Whatever a service or the node has answered when it stops reading a request is the answer: for each client, each
// service, each upload and each way of not reading on.
func TestEarlyAnswers(t *testing.T) {
	g, ca := earlyNode(t)
	ends := map[string][]string{
		"h1": {"keep", "linger", "close", "reset"}, "h2": {"no error", "cancel", "internal", "keep", "starve", "away"},
	}
	t.Run("all", func(t *testing.T) {
		for client, kind := range g.kinds(ca) {
			check := func(t *testing.T, u uploaded, status int, text string) {
				begun := time.Now()
				got, err := kind.upload(u)
				if err == nil && (got.status != status || text != "" && got.text != text) {
					err = fmt.Errorf("got %d with %d bytes, %.200q", got.status, len(got.text), got.text)
				}
				if err != nil {
					t.Errorf("%d bytes, chunked %v, expects 100 %v, to %s: after %v: %v", u.bytes, u.chunked, u.expects, u.path, time.Since(begun), err)
				}
			}
			for _, service := range serviceKinds {
				t.Run(client+" to "+service, func(t *testing.T) {
					t.Parallel()
					turn := 0
					for _, how := range refusals(ends[service[:2]]...) {
						for _, u := range uploads("/"+service+"-"+client+"/"+how.query(), &turn) {
							if how.after <= u.bytes {
								check(t, u, 413, how.text())
							}
						}
					}
				})
			}
			for path, status := range map[string]int{"/small/": 413, "/forbidden/": 403, "/nowhere": 404} {
				t.Run(client+" to "+path, func(t *testing.T) {
					t.Parallel()
					turn := 0
					for range 4 {
						for _, u := range uploads(path, &turn) {
							check(t, u, status, "")
						}
					}
				})
			}
		}
	})
}
