package proxy

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"gateway.internal/dataplane/internal/runtime"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
)

// applyFromControlPlane gives the node a configuration that it would not take from files.
func (g *gateway) applyFromControlPlane(text string) {
	g.t.Helper()
	doc, err := file.Load([]string{"-"}, strings.NewReader(text))
	if err != nil {
		g.t.Fatal(err)
	}
	plan, err := config.Empty().Plan(file.Edits(doc.Configuration), config.PlanOptions{Now: time.Now(), NewID: uuid.NewString})
	if err != nil {
		g.t.Fatal(err)
	}
	if problems := g.node.Apply(runtime.Version{Epoch: "e", Revision: 1, Config: plan.Config}); len(problems) > 0 {
		g.t.Fatal(problems)
	}
}

// TestChallengesAreForEverybody has everything in the way of an ACME server that a configuration can put there.
func TestChallengesAreForEverybody(t *testing.T) {
	ca := newAuthority(t)
	cert, key, _ := ca.issue("ready.example")
	dCert, dKey, _ := ca.issue("default.example")
	g := start(t, "")
	g.applyFromControlPlane(`routes:
  - {name: all, path: /*, direct_response: {body: all}}
  - {name: answer, path: /.well-known/acme-challenge/abc, hosts: [strict.example], direct_response: {body: abc.def}}
  - {name: impostor, path: /.well-known/acme-challenge/*, hosts: [strict.example], direct_response: {body: stolen}}
middleware:
  - {name: nobody, type: ip_restriction, config: {deny: [0.0.0.0/0, "::/0"]}}
pipelines:
  - {name: all, global: true, middleware_ids: [nobody]}
certificates:
  - {name: pending, hosts: [pending.example], acme: {}}
  - name: strict
    hosts: [strict.example]
    acme: {}
` + clientAuth("required", ca) +
		certificateOf("ready", cert, key, "    hosts: [ready.example, added.example]\n    acme: {}\n") +
		certificateOf("default", dCert, dKey, "    default: true\n"))

	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/.well-known/acme-challenge/abc":  {200, "abc.def"},
		"/.well-known/acme-challenge/abcd": {421, ""},
		"/":                                {421, ""},
	} {
		res := g.raw(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: strict.example\r\nConnection: close\r\n\r\n", path), "GET")[0]
		if text := body(t, res); res.StatusCode != want.status || want.body != "" && text != want.body {
			t.Errorf("%s: %d %s", path, res.StatusCode, text)
		}
	}

	for _, c := range []struct {
		name, verify string // verify: the name of the certificate that is shown; empty: none is
	}{
		{"ready.example", "ready.example"},
		{"added.example", "default.example"},   // there is no certificate yet that has it
		{"pending.example", "default.example"}, // there is none at all yet
		{"strict.example", ""},                 // asks something of clients: nobody else's certificate will do
	} {
		res, _, _, err := g.overTLS(&tls.Config{ServerName: c.name, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			return s.PeerCertificates[0].VerifyHostname(c.verify)
		}}, c.name, "Connection: close\r\n")
		switch {
		case c.verify == "" && err == nil:
			t.Errorf("%s: a certificate is shown", c.name)
		case c.verify != "" && (err != nil || res.StatusCode != http.StatusForbidden):
			t.Errorf("%s: %v, %v", c.name, res, err)
		}
	}
}
