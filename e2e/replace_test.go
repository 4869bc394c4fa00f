package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// programs builds a data plane, and returns what puts a version of it in the place of a program, as an upgrade does. A
// version is one digit: it is written into what was built once, since linking takes longer than all else here.
func programs(t testing.TB) func(path string, version int) {
	t.Helper()
	const built, mark = "version-0-of-this-test", "version-%d-of-this-test"
	from := filepath.Join(t.TempDir(), "dataplane")
	out, err := exec.Command("go", "build", "-o", from, "-ldflags", "-X gateway.internal/shared/observe.version="+built,
		"../dataplane/cmd/dataplane").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	return func(path string, version int) {
		t.Helper()
		b := bytes.ReplaceAll(program, []byte(built), fmt.Appendf(nil, mark, version))
		if err := os.WriteFile(path+".new", b, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

// version returns the version of who answers at a status address.
func version(address string) (string, error) {
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waittest.Limit}).Get("http://" + address + "/healthz")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var health struct{ Version string }
	err = json.NewDecoder(res.Body).Decode(&health)
	return health.Version, err
}

var successor = regexp.MustCompile(`"SIGUSR2: the program is started to replace this process" .*process=(\d+)`)

// TestReplacingUnderLoad replaces a node's program and process five times, while requests come on new connections and
// on old ones: none fails, a response that was under way comes to its end, and what can't replace the node leaves it as
// it is.
func TestReplacingUnderLoad(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "dataplane")
	build := programs(t)
	build(program, 0)
	begun, release := make(chan struct{}), make(chan struct{})
	slow, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "begun ")
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-release
		_, _ = io.WriteString(w, "ended")
	})}
	go func() { _ = server.Serve(slow) }()
	t.Cleanup(func() { _ = server.Close() })

	g := newGateway(t)
	_, revision, err := g.call("POST", "/api/v1/config/apply", fmt.Sprintf(`{"services":[{"name":"one","endpoints":[{"host":"127.0.0.1","port":%d}]},{"name":"slow","endpoints":[{"host":"127.0.0.1","port":%d}]}],
"routes":[{"name":"main","path":"/main","service_id":"one"},{"name":"slow","path":"/slow","service_id":"slow"}]}`, service(t, "one"), slow.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{id: "n", http: address(t), https: address(t), status: address(t)}
	data := filepath.Join(dir, "data")
	args := []string{"--control-plane", g.stream, "--http-addr", n.http, "--https-addr", n.https,
		"--status-addr", n.status, "--data-dir", data, "--drain-timeout", "10m"}
	env := []string{"GATEWAY_JOIN_TOKEN=" + joinToken}
	n.process = launch(t, program, env, args...)
	n.runs(revision)
	first := n.cmd.Process
	pid := first.Pid

	stop := make(chan struct{})
	kept := start("http://"+n.http+"/main", 16, 800, stop)
	fresh := start("http://"+n.http+"/main", 16, 400, stop)
	fresh.client.Transport.(*http.Transport).DisableKeepAlives = true
	var download atomic.Pointer[string]
	downloaded := make(chan struct{})
	go func() {
		defer close(downloaded)
		_, text := get(t, "http://"+n.http+"/slow")
		download.Store(&text)
	}()
	<-begun

	for i := 1; i <= 5; i++ {
		want := fmt.Sprintf("version-%d-of-this-test", i)
		build(program, i)
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		waittest.UntilNil(t, "version "+want, func() error {
			got, err := version(n.status)
			if err == nil && got != want {
				err = fmt.Errorf("it is %s", got)
			}
			return err
		})
		all := successor.FindAllStringSubmatch(n.logs(), -1)
		if len(all) != i {
			t.Fatalf("%d processes were started, not %d", len(all), i)
		}
		pid, _ = strconv.Atoi(all[i-1][1])
		n.runs(revision)
	}

	// A process that can't start and a program that is none leave the running one as it is.
	out, err := exec.Command(program, append(args, "--replace", "--access-log", filepath.Join(dir, "none", "log"))...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "access log") {
		t.Errorf("a process without an access log: %v\n%s", err, out)
	}
	waittest.UntilNil(t, "the reason in the log", func() error {
		if !strings.Contains(n.logs(), "the process that was to replace this one has failed; this one goes on") {
			return errors.New("it is not there")
		}
		return nil
	})
	// The first process, which is still there, has seen the end of its successor, but that is not its business any more.
	const ended = "the program that was to replace this process has ended; this process goes on"
	second, _ := strconv.Atoi(successor.FindStringSubmatch(n.logs())[1])
	waittest.UntilNil(t, "the end of the second process", func() error {
		if err := syscall.Kill(second, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
	if strings.Contains(n.logs(), ended) {
		t.Errorf("a process that is replaced says that it goes on:\n%s", n.logs())
	}
	none := filepath.Join(dir, "none")
	if err := os.WriteFile(none, []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(none, program); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	waittest.UntilNil(t, "the end of a program that is none", func() error {
		if n := strings.Count(n.logs(), ended); n != 1 {
			return fmt.Errorf("it is said %d times", n)
		}
		return nil
	})
	if got, err := version(n.status); err != nil || got != "version-5-of-this-test" {
		t.Errorf("after failures version %s serves, %v", got, err)
	}

	// The configuration still comes, to the last process alone.
	_, revision, err = g.call("POST", "/api/v1/config/apply", `{"routes":[{"name":"late","path":"/late","direct_response":{"body":"late"}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	n.runs(revision)
	nodes := g.must("", "nodes")
	if strings.Count(nodes, " connected ") != 1 || !strings.Contains(nodes, "version-5-of-this-test") {
		t.Errorf("nodes:\n%s", nodes)
	}

	close(release)
	<-downloaded
	if text := *download.Load(); text != "begun ended" {
		t.Errorf("the response that was under way: %q", text)
	}
	state, err := first.Wait()
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("the first process ended with %v, %v", state, err)
	}
	close(stop)
	kept.check(t, "connections that are kept", 1000)
	fresh.check(t, "new connections", 500)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waittest.UntilNil(t, "the end of the last process", func() error {
		if c, err := net.Dial("tcp", n.http); err == nil {
			_ = c.Close()
			return errors.New("somebody still listens")
		}
		return nil
	})
}
