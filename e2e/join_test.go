package e2e

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

// TestJoin has nodes join by tokens that the control plane made: a token that is used up is refused, a node that has
// joined needs none, also after both sides were killed, and one that is revoked gets nothing any more.
func TestJoin(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "--static-join-token=false")
	token := strings.TrimSpace(g.must("", "join-token", "create", "--uses", "1", "--group", "edge", "-o", "json"))
	_, token, _ = strings.Cut(token, `"token"`)
	token = strings.Split(token, `"`)[1]
	join := func(id, token string) *node {
		n := &node{id: id, http: address(t), status: address(t)}
		n.process = launch(t, bin(t, "dataplane"), []string{"GATEWAY_JOIN_TOKEN=" + token}, "--control-plane", g.stream,
			"--http-addr", n.http, "--https-addr", "", "--status-addr", n.status, "--data-dir", filepath.Join(g.dir, id),
			"--node-id", id)
		return n
	}
	logs := func(n *node, text string) {
		t.Helper()
		waittest.UntilNil(t, n.id+" logs "+text, func() error {
			if !strings.Contains(n.logs(), text) {
				return errors.New("it does not")
			}
			return nil
		})
	}
	apply := func(name string) {
		t.Helper()
		g.must("routes: [{name: "+name+", path: /"+name+", direct_response: {body: x}}]\n", "apply", "-f", "-")
	}
	apply("one")
	first := join("first", token)
	first.runs(1)
	if out := g.must("", "nodes", "first"); !strings.Contains(out, "edge") {
		t.Errorf("it is not of the token's group:\n%s", out)
	}
	logs(join("second", token), "used already")
	logs(join("third", joinToken), "join-token create")

	first.kill()
	g.control.kill()
	first.env = nil // it needs no token any more
	g.control.start()
	g.ready()
	first.start()
	apply("two")
	first.runs(2)

	g.must("", "nodes", "revoke", "first", "--reason", "a test")
	logs(first, "is revoked")
	if out := g.must("", "nodes", "revoked"); !strings.Contains(out, "a test") {
		t.Errorf("revoked nodes:\n%s", out)
	}
	apply("three")
	first.runs(2) // it serves what it has
}
