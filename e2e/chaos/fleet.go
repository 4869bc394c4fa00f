package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

const (
	adminToken = "the-admin-token-of-the-chaos"
	joinToken  = "the-join-token-of-the-chaos"
)

// fleet is a node that follows a control plane, through whose REST API its endpoints are changed, or through etcd.
type fleet struct {
	discovers bool

	rest, front, status string
	registry            *clientv3.Client // with discovers
	used                map[*endpoint]bool
}

func (*fleet) name() string { return "gateway" }

func (f *fleet) start(r *run) (string, string) {
	f.rest, f.front, f.status = address(r.t), address(r.t), address(r.t)
	f.used = map[*endpoint]bool{}
	admin, stream := address(r.t), address(r.t)
	flags := []string{
		"--http-addr", f.rest, "--grpc-addr", admin, "--stream-addr", stream,
		"--data-dir", filepath.Join(r.dir, "control"),
	}
	endpoints := fixed(r.endpoints)
	if f.discovers {
		etcd := testserver.NewEtcd(r.t)
		flags = append(flags, "--etcd-endpoints", etcd.Endpoint)
		var err error
		if f.registry, err = clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint}}); err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { _ = f.registry.Close() })
		f.use(r, r.endpoints)
		endpoints = "discovery: {etcd: {}}"
	}
	for _, e := range r.endpoints {
		f.used[e] = true
	}
	tokens := []string{"GATEWAY_ADMIN_TOKEN=" + adminToken, "GATEWAY_JOIN_TOKEN=" + joinToken}
	launch(r.t, tokens, binary(r.t, "controlplane"), flags...)
	awaitStatus(r.t, "http://"+f.rest+"/readyz", 200)
	apply := exec.Command(binary(r.t, "gatewayctl"), "apply", "-f", "-")
	apply.Env = append(os.Environ(), "GATEWAYCTL_SERVER="+admin, "GATEWAYCTL_TOKEN="+adminToken)
	apply.Stdin = strings.NewReader(r.gatewayConfig(endpoints))
	if out, err := apply.CombinedOutput(); err != nil {
		r.t.Fatalf("gatewayctl apply: %v\n%s", err, out)
	}
	launch(r.t, tokens, binary(r.t, "dataplane"), "--control-plane", stream, "--http-addr", f.front, "--https-addr", "",
		"--status-addr", f.status, "--data-dir", filepath.Join(r.dir, "node"), "--node-id", "node")
	awaitStatus(r.t, "http://"+f.status+"/readyz", 200)
	return f.front, f.front
}

// use adds and removes endpoints one by one.
func (f *fleet) use(r *run, in []*endpoint) {
	r.t.Helper()
	for _, e := range r.endpoints {
		if want := slices.Contains(in, e); want == f.used[e] {
			continue
		} else if f.used[e] = want; want {
			f.add(r, e)
		} else {
			f.remove(r, e)
		}
	}
}

func (f *fleet) add(r *run, e *endpoint) {
	r.t.Helper()
	if f.discovers {
		value := fmt.Sprintf(`{"id":%q,"name":"service","address":%q,"port":%d}`, e.name, e.host, e.port)
		f.register(r, func(ctx context.Context) error {
			_, err := f.registry.Put(ctx, "/services/service/"+e.name, value)
			return err
		})
		return
	}
	f.call(r, "POST", "services/service/endpoints", fmt.Sprintf(`{"host":%q,"port":%d}`, e.host, e.port))
}

func (f *fleet) remove(r *run, e *endpoint) {
	r.t.Helper()
	if f.discovers {
		f.register(r, func(ctx context.Context) error {
			_, err := f.registry.Delete(ctx, "/services/service/"+e.name)
			return err
		})
		return
	}
	f.call(r, "DELETE", fmt.Sprintf("services/service/endpoints/%s/%d", e.host, e.port), "")
}

func (f *fleet) register(r *run, do func(context.Context) error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waittest.Limit)
	defer cancel()
	if err := do(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// call changes the configuration and returns its revision.
func (f *fleet) call(r *run, method, path, body string) (revision int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waittest.Limit)
	defer cancel()
	url := "http://" + f.rest + "/api/v1/config/" + path
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewBufferString(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var reply struct {
		Error *struct{ Message string }
		Meta  struct{ Revision int }
	}
	if err := json.NewDecoder(res.Body).Decode(&reply); err != nil || reply.Error != nil {
		r.t.Fatalf("%s %s: %v %+v", method, path, err, reply.Error)
	}
	return reply.Meta.Revision
}

// awaitRevision waits until the node runs a revision.
func (f *fleet) awaitRevision(r *run, revision int) {
	r.t.Helper()
	client := &http.Client{Timeout: time.Second}
	waittest.UntilNil(r.t, fmt.Sprint("revision ", revision), func() error {
		res, err := client.Get("http://" + f.status + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var ready struct{ Revision int }
		if err := json.NewDecoder(res.Body).Decode(&ready); err != nil {
			return err
		}
		if ready.Revision < revision {
			return fmt.Errorf("the node runs %d", ready.Revision)
		}
		return nil
	})
}
