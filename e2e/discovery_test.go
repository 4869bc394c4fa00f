package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// TestDiscovery has instances register in etcd and go again, and traffic follow. Neither an etcd that is gone, nor a
// control plane that restarts meanwhile, takes endpoints away.
func TestDiscovery(t *testing.T) {
	registry := testserver.NewEtcd(t)
	g := newGateway(t, "--etcd-endpoints", registry.Endpoint)
	n := g.node("n1")
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{registry.Endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	register := func(id string, port int) {
		t.Helper()
		if _, err := client.Put(t.Context(), "/services/users/"+id, fmt.Sprintf(`{"id":%q,"name":"users","address":"127.0.0.1","port":%d,"tags":["v1"]}`, id, port)); err != nil {
			t.Fatal(err)
		}
	}
	// answers waits until requests are answered by just these.
	answers := func(want ...string) {
		t.Helper()
		waittest.UntilNil(t, fmt.Sprint("traffic to ", want), func() error {
			seen := map[string]int{}
			for range 2 * max(len(want), 1) {
				code, text := get(t, "http://"+n.http+"/users/1")
				if code != 200 {
					text = fmt.Sprint(code)
				}
				seen[text]++
			}
			for _, w := range want {
				if seen[w] != 2 {
					return fmt.Errorf("it came from %v", seen)
				}
			}
			return nil
		})
	}

	g.must("services: [{name: users, discovery: {etcd: {tags: [v1]}}}]\nroutes: [{name: users, path: /users/*, service_id: users}]", "apply", "-f", "-")
	n.runs(1)
	answers("503")
	first, second := service(t, "first"), service(t, "second")
	register("a", first)
	answers("first")
	register("b", second)
	answers("first", "second")
	if _, err := client.Delete(t.Context(), "/services/users/a"); err != nil {
		t.Fatal(err)
	}
	answers("second")
	register("a", first)
	answers("first", "second")

	registry.Kill()
	answers("first", "second")
	waittest.UntilNil(t, "what was found to be kept", func() error {
		for line := range strings.Lines(mustGet(t, "http://"+g.rest+"/metrics")) {
			if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == "gateway_discovery_unsaved_services" {
				if value != "0" {
					return fmt.Errorf("%s services are not", value)
				}
				return nil
			}
		}
		return errors.New("there is no such metric")
	})
	g.control.kill()
	g.control.start()
	g.ready()
	if _, _, err := g.call("POST", "/api/v1/config/routes", `{"name":"more","path":"/more","service_id":"users"}`); err != nil {
		t.Fatal(err)
	}
	n.runs(2)
	answers("first", "second")

	registry.Restart()
	if _, err := client.Delete(t.Context(), "/services/users/b"); err != nil {
		t.Fatal(err)
	}
	answers("first")
	if _, err := client.Delete(t.Context(), "/services/users/a"); err != nil {
		t.Fatal(err)
	}
	register("c", second)
	answers("second")
}
