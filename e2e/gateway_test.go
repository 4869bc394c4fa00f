package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// nginx serves a folder of files.
func nginx(t testing.TB, files map[string]string) (port int) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("nginx is not installed: make tools")
	}
	dir, err := os.MkdirTemp("", "gateway-nginx")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, text := range files {
		write(t, filepath.Join(dir, "www", name), text)
	}
	port = testserver.FreePort(t)
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/pid; error_log stderr;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  server { listen 127.0.0.1:%[2]d; root %[1]s/www; } }`, dir, port))
	launch(t, path, nil, "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	waittest.UntilNil(t, "nginx", func() error {
		for name := range files {
			return status(fmt.Sprint("127.0.0.1:", port), "/"+name, 200)
		}
		return nil
	})
	return port
}

// TestMainJob goes the whole way on PostgreSQL: files in, traffic through, a change, a rollback.
func TestMainJob(t *testing.T) {
	postgres := testserver.NewPostgreSQL(t)
	g := newGateway(t, "--store", postgres.URL)
	n := g.node("n1", "--labels", "zone=a")
	files := nginx(t, map[string]string{"hello.txt": "from nginx"})
	heavy, light := service(t, "heavy"), service(t, "light")

	folder := t.TempDir()
	write(t, filepath.Join(folder, "services.yaml"), fmt.Sprintf(`services:
  - name: files
    endpoints: [{host: 127.0.0.1, port: %d}]
    health_check_config: {path: /hello.txt, interval: 1s}
  - name: echo
    load_balancer_type: weighted_round_robin
    endpoints: [{host: 127.0.0.1, port: %d, weight: 3}, {host: 127.0.0.1, port: %d, weight: 1}]
`, files, heavy, light))
	write(t, filepath.Join(folder, "routes.yaml"), `routes:
  - {name: files, path: /files/*, service_id: files, rewrite: {prefix: /}}
  - {name: echo, path: /echo/*, methods: [GET], service_id: echo, pipeline_id: front}
`)
	write(t, filepath.Join(folder, "sub", "front.json"), `{"middleware": [{"name": "stamp", "type": "headers", "order": 1, "config": {"response": {"set": {"X-Stamp": "1"}}}}],
"pipelines": [{"name": "front", "middleware_ids": ["stamp"]}]}`)

	if out := g.must("", "apply", "-f", folder, "--dry-run"); !strings.Contains(out, "6 created") {
		t.Errorf("dry run:\n%s", out)
	}
	if out := g.must("", "apply", "-f", folder, "-m", "first"); !strings.Contains(out, "revision 1: 6 created") {
		t.Errorf("apply:\n%s", out)
	}
	n.runs(1)
	if code, text := get(t, "http://"+n.http+"/files/hello.txt"); code != 200 || text != "from nginx" {
		t.Errorf("nginx through the gateway: %d %s", code, text)
	}
	counts := map[string]int{}
	for range 400 {
		_, text := get(t, "http://"+n.http+"/echo/x")
		counts[text]++
	}
	if counts["heavy"] != 300 || counts["light"] != 100 {
		t.Errorf("of weights 3 and 1 came %v", counts)
	}
	g.must("", "disable", "route", "echo")
	n.runs(2)
	if code, _ := get(t, "http://"+n.http+"/echo/x"); code != 404 {
		t.Errorf("a disabled route answers %d", code)
	}
	if out, code := g.ctl("", "diff", "-f", folder); code != 1 || !strings.Contains(out, "enabled: false -> true") {
		t.Errorf("diff says %d\n%s", code, out)
	}
	if out := g.must("", "rollback", "1"); !strings.Contains(out, "revision 3") {
		t.Errorf("rollback:\n%s", out)
	}
	n.runs(3)
	if code, text := get(t, "http://"+n.http+"/echo/x"); code != 200 {
		t.Errorf("after the rollback: %d %s", code, text)
	}
	waittest.UntilNil(t, "the node in gatewayctl nodes", func() error {
		if out := g.must("", "nodes"); !strings.Contains(out, "n1") || !strings.Contains(out, "connected   3") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if out := g.must("", "export"); g.mustReapply(out) {
		t.Error("applying what was exported changes something")
	}
	if out, code := g.ctl("routes: [{name: x, path: /x, service_id: flies}]", "apply", "-f", "-"); code != 3 || !strings.Contains(out, `-:1:42: route "x": service_id "flies" names no service; did you mean "files"?`) {
		t.Errorf("exit code %d\n%s", code, out)
	}

	// Without PostgreSQL reads go on, writes say why not, and traffic does not care.
	postgres.Stop()
	if _, _, err := g.call("GET", "/api/v1/config/routes", ""); err != nil {
		t.Errorf("a read without the store: %v", err)
	}
	if _, _, err := g.call("POST", "/api/v1/config/routes/echo/disable", ""); err == nil || !strings.Contains(err.Error(), "STORE_UNAVAILABLE") {
		t.Errorf("a write without the store: %v", err)
	}
	if code, _ := get(t, "http://"+n.http+"/echo/x"); code != 200 {
		t.Errorf("traffic without the store: %d", code)
	}
	postgres.Start()
	waittest.UntilNil(t, "writes", func() error {
		_, _, err := g.call("POST", "/api/v1/config/routes/echo/disable", "")
		return err
	})
	n.runs(4)
	if code := n.terminate(); code != 0 {
		t.Errorf("the node ended with %d", code)
	}
	if code := g.control.terminate(); code != 0 {
		t.Errorf("the control plane ended with %d", code)
	}
}

func (g *gateway) mustReapply(text string) (changed bool) {
	g.t.Helper()
	return !strings.Contains(g.must(text, "apply", "-f", "-"), "nothing to change")
}

// TestTwoReplicas has two control planes on one PostgreSQL: both write, and nodes of both see everything.
func TestTwoReplicas(t *testing.T) {
	postgres := testserver.NewPostgreSQL(t)
	a, b := newGateway(t, "--store", postgres.URL), newGateway(t, "--store", postgres.URL)
	na, nb := a.node("na"), b.node("nb")
	for i := range 10 {
		g := []*gateway{a, b}[i%2]
		if _, revision, err := g.call("POST", "/api/v1/config/routes", fmt.Sprintf(`{"name":"r%d","path":"/r%[1]d","direct_response":{"body":"x"}}`, i)); err != nil || revision != i+1 {
			t.Fatalf("revision %d: %v", revision, err)
		}
	}
	na.runs(10)
	nb.runs(10)
	a.control.kill()
	if _, _, err := b.call("POST", "/api/v1/config/routes", `{"name":"last","path":"/last","direct_response":{"body":"x"}}`); err != nil {
		t.Fatal(err)
	}
	nb.runs(11)
}

// TestDev starts what a newcomer starts, and checks that it leaves nothing behind, even when it is killed.
func TestDev(t *testing.T) {
	for _, kill := range []bool{false, true} {
		proxy := address(t)
		temp := t.TempDir() // one that is killed leaves its folder
		d := launch(t, bin(t, "gatewayctl"), []string{"TMPDIR=" + temp}, "dev", "--http-addr", proxy, "--https-addr", address(t), "--status-addr", address(t), "--rest-addr", address(t), "--grpc-addr", address(t), "--stream-addr", address(t))
		waittest.UntilNil(t, "dev", func() error {
			if !strings.Contains(d.logs(), "The gateway is ready") {
				return fmt.Errorf("%s", d.logs())
			}
			return nil
		})
		if code, text := get(t, "http://"+proxy+"/demo/hello"); code != 200 || !strings.Contains(text, `"path": "/demo/hello"`) {
			t.Errorf("the demo answers %d %s", code, text)
		}
		if code, text := get(t, "http://"+proxy+"/api/v1/proxy/x"); code != 200 || !strings.Contains(text, `"path": "/x"`) {
			t.Errorf("the rewritten demo answers %d %s", code, text)
		}
		if kill {
			d.kill()
		} else if code := d.terminate(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		waittest.UntilNil(t, "the proxy's end", func() error {
			if code, _ := get(t, "http://"+proxy+"/demo/hello"); code != 0 {
				return fmt.Errorf("it answers %d", code)
			}
			return nil
		})
	}
}
