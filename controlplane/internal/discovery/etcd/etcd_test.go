package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"gateway.internal/controlplane/internal/discovery"
	"gateway.internal/controlplane/internal/discovery/discoverytest"
	"gateway.internal/controlplane/testserver"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	discoverytest.Run(t, func(t *testing.T) discoverytest.Registry {
		server := testserver.NewEtcd(t)
		return &registry{t: t, server: server, client: newClient(t, server.Endpoint)}
	})
}

func newClient(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newSource(t testing.TB, endpoints ...string) *Source {
	t.Helper()
	s, err := New(Settings{Endpoints: endpoints, Prefix: DefaultPrefix})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// registry is discoverytest.Registry over a real etcd.
type registry struct {
	t      testing.TB
	server *testserver.Etcd
	client *clientv3.Client
}

func (r *registry) Source() discovery.Source { return newSource(r.t, r.server.Endpoint) }

func (r *registry) Discovery(service string, tags ...string) *configv1.Discovery {
	return &configv1.Discovery{Source: &configv1.Discovery_Etcd{Etcd: &configv1.EtcdDiscovery{Service: service, Tags: tags}}}
}

func value(t testing.TB, i discoverytest.Instance) string {
	t.Helper()
	v := map[string]any{"id": i.ID, "name": i.Service, "tags": i.Tags, "address": i.Address, "port": i.Port, "meta": i.Meta}
	if i.Weight != 0 {
		v["weight"] = i.Weight
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (r *registry) put(id, value string, opts ...clientv3.OpOption) {
	r.t.Helper()
	r.do(func(ctx context.Context) error {
		_, err := r.client.Put(ctx, DefaultPrefix+id, value, opts...)
		return err
	})
}

func (r *registry) do(what func(ctx context.Context) error) {
	r.t.Helper()
	waittest.UntilNil(r.t, "etcd", func() error {
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second) // then it is tried again
		defer cancel()
		return what(ctx)
	})
}

func (r *registry) Register(i discoverytest.Instance) { r.put(i.ID, value(r.t, i)) }
func (r *registry) RegisterBad(id string)             { r.put(id, `{"name":"users","address":"10.0.0.7"`) }

func (r *registry) Deregister(id string) {
	r.do(func(ctx context.Context) error {
		_, err := r.client.Delete(ctx, DefaultPrefix+id)
		return err
	})
}

func (r *registry) RegisterLeased(i discoverytest.Instance) func() {
	var lease clientv3.LeaseID
	r.do(func(ctx context.Context) error {
		granted, err := r.client.Grant(ctx, 1) // nobody keeps it alive
		if err == nil {
			lease = granted.ID
		}
		return err
	})
	alive, lose := context.WithCancel(r.t.Context())
	answers, err := r.client.KeepAlive(alive, lease)
	if err != nil {
		r.t.Fatal(err)
	}
	go func() {
		for range answers { // the client warns when nobody reads
		}
	}()
	r.put(i.ID, value(r.t, i), clientv3.WithLease(lease))
	return lose
}

func (r *registry) Wipe() {
	r.do(func(ctx context.Context) error {
		_, err := r.client.Delete(ctx, DefaultPrefix, clientv3.WithPrefix())
		return err
	})
}

func (r *registry) Compact() {
	r.do(func(ctx context.Context) error {
		now, err := r.client.Get(ctx, "x")
		if err == nil {
			_, err = r.client.Compact(ctx, now.Header.GetRevision(), clientv3.WithCompactPhysical())
		}
		if errors.Is(err, rpctypes.ErrCompacted) {
			return nil
		}
		return err
	})
}

func (r *registry) Kill()    { r.server.Kill() }
func (r *registry) Restart() { r.server.Restart() }
func (r *registry) Replace() { r.server.Replace() }

// A watch that starts where history is gone ends with ErrCompacted, whereupon everything is read again.
func TestWatchOfCompactedHistory(t *testing.T) {
	r := &registry{t: t, server: testserver.NewEtcd(t)}
	r.client = newClient(t, r.server.Endpoint)
	s := newSource(t, r.server.Endpoint)
	_, old, err := s.list(t.Context(), r.client)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		r.Register(discoverytest.Instance{ID: "1", Service: "users", Address: "h", Port: 1})
	}
	r.Compact()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Limit)
	defer cancel()
	err = s.watch(ctx, r.client, old, make(chan batch), func() {})
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("the watch ended with %v", err)
	}
}

// A member that has lost its leader knows nothing new; the watch must not stay on it in silence.
func TestLeaderLoss(t *testing.T) {
	cluster := testserver.NewEtcdCluster(t, 3)
	r := &registry{t: t, server: cluster[0], client: newClient(t, cluster[0].Endpoint)}
	r.Register(discoverytest.Instance{ID: "1", Service: "users", Address: "10.0.0.1", Port: 80})
	g := discoverytest.Start(t, r.Source())
	g.Put(&configv1.Service{Name: "users", Discovery: r.Discovery("")})
	g.Await("users", "10.0.0.1:80 1")
	g.AwaitMetric("gateway_discovery_up", 1)
	cluster[1].Kill()
	cluster[2].Kill()
	g.AwaitMetric("gateway_discovery_up", 0)
	g.Await("users", "10.0.0.1:80 1")
	cluster[1].Restart()
	r.Register(discoverytest.Instance{ID: "2", Service: "users", Address: "10.0.0.2", Port: 80})
	g.Await("users", "10.0.0.1:80 1", "10.0.0.2:80 1")
	g.AwaitMetric("gateway_discovery_up", 1)
}

// With several members, the loss of the one that is watched is not the loss of the registry.
func TestMemberLoss(t *testing.T) {
	cluster := testserver.NewEtcdCluster(t, 3)
	r := &registry{t: t, client: newClient(t, cluster[0].Endpoint, cluster[1].Endpoint, cluster[2].Endpoint)}
	g := discoverytest.Start(t, newSource(t, cluster[0].Endpoint, cluster[1].Endpoint, cluster[2].Endpoint))
	g.Put(&configv1.Service{Name: "users", Discovery: r.Discovery("")})
	for i, member := range cluster {
		address := fmt.Sprint("10.0.0.", i)
		r.Register(discoverytest.Instance{ID: "1", Service: "users", Address: address, Port: 80})
		g.Await("users", address+":80 1")
		member.Kill()
		r.Register(discoverytest.Instance{ID: "1", Service: "users", Address: address, Port: 81})
		g.Await("users", address+":81 1")
		member.Restart()
	}
}

func TestManyServices(t *testing.T) {
	services, instances := 10_000, 5
	if testing.Short() {
		services = 500
	}
	server := testserver.NewEtcd(t)
	client := newClient(t, server.Endpoint)
	var ops []clientv3.Op
	flush := func() {
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
		ops = ops[:0]
	}
	list := make([]*configv1.Service, services)
	for i := range list {
		name := fmt.Sprintf("service-%d", i)
		list[i] = &configv1.Service{Name: name, Discovery: &configv1.Discovery{Source: &configv1.Discovery_Etcd{Etcd: &configv1.EtcdDiscovery{}}}}
		for j := range instances {
			in := discoverytest.Instance{ID: fmt.Sprintf("%s-%d", name, j), Service: name, Address: fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j), Port: 80}
			ops = append(ops, clientv3.OpPut(DefaultPrefix+name+"/"+in.ID, value(t, in)))
			if len(ops) == 120 {
				flush()
			}
		}
	}
	flush()
	g := discoverytest.Start(t, newSource(t, server.Endpoint))
	g.AwaitMetric("gateway_discovery_up", 1)
	g.Put(list...)
	began := time.Now()
	g.Eventually("every service has its endpoints", func() bool { return len(g.Catalog.Endpoints().Services) == services })
	t.Logf("%d services with %d registrations: known %v after the commit", services, services*instances, time.Since(began))

	began = time.Now()
	if _, err := client.Delete(t.Context(), DefaultPrefix+"service-77/service-77-0"); err != nil {
		t.Fatal(err)
	}
	g.Eventually("one more change is followed", func() bool { return len(g.Endpoints("service-77")) == instances-1 })
	t.Logf("one more change: %v", time.Since(began))
}

func FuzzParse(f *testing.F) {
	f.Add(`{"id":"a","name":"users","tags":["v1"],"address":"10.0.0.1","port":80,"meta":{"zone":"a"},"weight":3}`)
	f.Add(`{"name":"users","address":"FD00:0::1","port":65535}`)
	f.Add(`{"name":"users","address":"host","port":"80"}`)
	f.Add(`{"name":"users","address":"host","port":80.5}`)
	f.Add(`[]`)
	f.Add(`{`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parse([]byte(text))
		if err != nil {
			return
		}
		if e := got.endpoint; got.name == "" || e.GetHost() == "" || e.GetPort() == 0 || e.GetPort() > 65535 || e.GetWeight() > maxWeight {
			t.Errorf("%q was taken as %v", text, e)
		}
	})
}

func TestParseErrors(t *testing.T) {
	large := `{"name":"users","address":"h","port":80,"meta":{"a":"` + strings.Repeat("x", 8<<10) + `"}}`
	for text, want := range map[string]string{
		`{"name":"users","address":"h"}`:                                  "port 0: has to be 1 to 65535",
		`{"name":"users","address":"h","port":"80"}`:                      "port: has to be a whole number, not string",
		`{"name":"users","address":"h:80","port":80}`:                     `address "h:80": has to be an IP address or a DNS name, without scheme and port`,
		`{"address":"h","port":80}`:                                       `name "": has to be 1 to 256 bytes without "/"`,
		`{"name":"users","address":"h","port":80,"weight":1001}`:          "weight 1001: has to be 0 to 1000",
		`{"name":"users","address":"h","port":80,"meta":{"a":{}}}`:        "meta: has to be an object of strings, not object",
		`{"name":"users","address":"h","port":80,"tags":"v1"}`:            "tags: has to be a list of strings, not string",
		`{"name":"users","address":"h","port":80,"extra":true}`:           "",
		`{"name":"users","address":"h","port":80,"weight":0,"tags":null}`: "",

		large: "meta: has 8193 bytes of keys and values; 8192 are allowed",
	} {
		_, err := parse([]byte(text))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestSettings(t *testing.T) {
	for name, s := range map[string]Settings{
		"no endpoint":     {Prefix: "/services/"},
		"empty endpoint":  {Endpoints: []string{""}, Prefix: "/services/"},
		"no prefix":       {Endpoints: []string{"h:1"}},
		"open prefix":     {Endpoints: []string{"h:1"}, Prefix: "/services"},
		"half a password": {Endpoints: []string{"h:1"}, Prefix: "/s/", Username: "u"},
	} {
		if _, err := New(s); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
