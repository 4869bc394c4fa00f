package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config/file"
)

type dev struct {
	http, https, status, rest, grpc, stream string
	dataDir                                 string
	verbose                                 bool
}

func (r *root) dev() *cobra.Command {
	var d dev
	cmd := &cobra.Command{
		Use: "dev", Short: "Start both planes and a demo service on this machine, for a try", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&d.http, "http-addr", "127.0.0.1:8080", "address of the proxy")
	f.StringVar(&d.https, "https-addr", "127.0.0.1:8443", "address of the proxy over TLS, for when there are certificates")
	f.StringVar(&d.status, "status-addr", "127.0.0.1:8081", "address of the proxy's status")
	f.StringVar(&d.rest, "rest-addr", "127.0.0.1:9080", "address of the admin API over REST")
	f.StringVar(&d.grpc, "grpc-addr", "127.0.0.1:9090", "address of the admin API over gRPC")
	f.StringVar(&d.stream, "stream-addr", "127.0.0.1:9095", "address of the stream to nodes")
	f.StringVar(&d.dataDir, "data-dir", "", "keep the data here; empty: in a temporary folder")
	f.BoolVar(&d.verbose, "verbose", false, "show what both planes log")
	return cmd
}

const demoConfig = `services:
  - name: demo
    load_balancer_type: weighted_round_robin
    endpoints: [{host: 127.0.0.1, port: %d, weight: 3}, {host: 127.0.0.1, port: %d, weight: 1}]
    health_check_config: {path: /healthz, interval: 2s}
    policy_id: demo-limits
routes:
  - {name: demo, path: /demo/*, service_id: demo, pipeline_id: demo}
  - {name: proxy-api, path: /api/v1/proxy/*, service_id: demo, rewrite: {prefix: /}}
  - {name: hello, path: /, direct_response: {body: "The gateway runs. Try /demo/hello\n"}}
middleware:
  - {name: demo-cors, type: cors, order: 10, config: {allow_origins: ["*"]}}
  - {name: demo-stamp, type: headers, order: 20, config: {request: {set: {X-Gateway: "yes"}}, response: {set: {X-Served-By: gateway}}}}
pipelines:
  - {name: demo, middleware_ids: [demo-cors, demo-stamp]}
policies:
  - {name: demo-limits, timeout: 10s, max_request_bytes: 10485760}
`

func (d *dev) run(ctx context.Context, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := d.dataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "gateway-dev-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	for _, a := range []string{d.http, d.https, d.status, d.rest, d.grpc, d.stream} {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			return fmt.Errorf("the address %s is not free (gatewayctl dev --help has flags for other ones): %w", a, err)
		}
		_ = ln.Close()
	}
	var ports [2]int
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s := &http.Server{Handler: demo(fmt.Sprint("demo-", i+1)), ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = s.Serve(ln) }()
		defer s.Close()
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	admin, join := secret(), secret()
	env := append(withoutSettings(os.Environ()), "GATEWAY_ADMIN_TOKEN="+admin, "GATEWAY_JOIN_TOKEN="+join)
	control := filepath.Join(dir, "controlplane")
	if err := os.MkdirAll(control, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(control, "admin-token"), []byte(admin+"\n"), 0o600); err != nil {
		return err
	}
	bin := filepath.Dir(self)
	logs, err := os.OpenFile(filepath.Join(dir, "dev.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logs.Close()
	var sink io.Writer = logs
	if d.verbose {
		sink = io.MultiWriter(logs, os.Stderr)
	}
	group := &children{sink: sink, env: env, ended: make(chan error, 2)}
	defer group.stop()
	if err := group.start(filepath.Join(bin, "controlplane"), "--http-addr", d.rest, "--grpc-addr", d.grpc, "--stream-addr", d.stream, "--data-dir", control); err != nil {
		return err
	}
	if err := group.start(filepath.Join(bin, "dataplane"), "--control-plane", d.stream, "--http-addr", d.http, "--https-addr", d.https, "--status-addr", d.status, "--data-dir", filepath.Join(dir, "dataplane"), "--node-id", "dev", "--drain-timeout", "3s"); err != nil {
		return err
	}
	if err := d.ready(ctx, admin, ports, group.ended); err != nil {
		if ctx.Err() != nil {
			return nil // it was ended before it was ready
		}
		return fmt.Errorf("%w\n%s", err, tail(logs.Name()))
	}
	d.greet(out, control)
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nstopping")
		return nil
	case err := <-group.ended:
		return fmt.Errorf("%w\n%s", err, tail(logs.Name()))
	}
}

// ready applies the demo and waits until the proxy answers by it.
func (d *dev) ready(ctx context.Context, token string, ports [2]int, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	applied := false
	err := errors.New("not started")
	for {
		if !applied {
			if err = d.applyDemo(ctx, token, ports); err == nil {
				applied = true
			}
		}
		if applied {
			if err = answers(ctx, "http://"+d.http+"/demo/ready"); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the gateway did not get ready: %w", err)
		case e := <-ended:
			return e
		case <-tick.C:
		}
	}
}

func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, res.Status)
	}
	return nil
}

func (d *dev) applyDemo(ctx context.Context, token string, ports [2]int) error {
	doc, err := file.Load([]string{"-"}, strings.NewReader(fmt.Sprintf(demoConfig, ports[0], ports[1])))
	if err != nil {
		return err
	}
	c, err := cli.ConnectAs(d.grpc, token, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	callCtx, cancel := c.Context(ctx)
	defer cancel()
	_, err = c.Config.ApplyConfiguration(callCtx, &adminv1.ApplyConfigurationRequest{Configuration: doc.Configuration, Author: "gatewayctl dev", Message: "demo"})
	return err
}

func (d *dev) greet(out io.Writer, control string) {
	fmt.Fprintf(out, `
The gateway is ready.

  proxy        http://%[1]s
  admin REST   http://%[2]s/api/v1/   (OpenAPI: /api/v1/openapi.json)
  admin gRPC   %[3]s
  metrics      http://%[4]s/metrics

Try, in another terminal:

  export GATEWAYCTL_SERVER=%[3]s GATEWAYCTL_TOKEN=$(cat %[5]s)
  curl http://%[1]s/demo/hello
  gatewayctl get routes
  gatewayctl nodes
  gatewayctl disable route demo && curl -i http://%[1]s/demo/hello
  gatewayctl revisions && gatewayctl rollback 1 && curl http://%[1]s/demo/hello

(gatewayctl is in ./bin.) Ctrl-C ends everything.
`, d.http, d.rest, d.grpc, d.status, filepath.Join(control, "admin-token"))
}

// demo is a service that says what it was asked.
func demo(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		headers := map[string]string{}
		for k, v := range r.Header {
			headers[k] = strings.Join(v, ", ")
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(map[string]any{"instance": name, "method": r.Method, "path": r.URL.RequestURI(), "host": r.Host, "headers": headers, "body_bytes": n})
	})
	return mux
}

func secret() string {
	var b [24]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// children are the processes that dev has started. The kernel ends them when dev dies, whatever it dies of.
type children struct {
	sink    io.Writer
	env     []string
	running []*child
	ended   chan error // has room for all of them
}

type child struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (c *children) start(path string, args ...string) error {
	cmd := exec.Command(path, args...) //nolint:gosec // a binary that lies beside this one
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, c.sink, c.sink
	// A group of its own keeps the terminal's Ctrl-C from it: it is told to end in its turn.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	done := make(chan struct{})
	started := make(chan error, 1)
	go func() {
		defer close(done)
		// The death signal is of the thread that starts the process, so that thread stays until the process ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			err = cmd.Wait()
			c.ended <- fmt.Errorf("%s has ended: %w", filepath.Base(path), errors.Join(err, errEnded))
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s (make build makes it): %w", path, err)
	}
	c.running = append(c.running, &child{cmd, done})
	return nil
}

var errEnded = errors.New("its log follows")

// stop ends the processes, last started first, and waits for them.
func (c *children) stop() {
	for _, child := range slices.Backward(c.running) {
		_ = child.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-child.done:
		case <-time.After(10 * time.Second):
			_ = child.cmd.Process.Kill()
			<-child.done
		}
	}
}

// withoutSettings leaves out what sets up the gateways of this machine: dev's own has its own settings.
func withoutSettings(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "GATEWAY_") })
}
