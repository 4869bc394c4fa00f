package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gateway.internal/shared/waittest"
)

// halt is a point at which a process that is to replace another one waits, for as long as the test wants.
type halt struct {
	args, env []string
	// reached waits until the process is there, and returns what lets it go on.
	reached func(pid int) (release func())
}

// halts are all the points, in their order. The process waits where it reads a file, or where it makes one in a locked
// folder.
func halts(t *testing.T, dir string) map[string]halt {
	t.Helper()
	token := []string{"GATEWAY_JOIN_TOKEN=" + joinToken}
	lockDir, err := os.MkdirTemp("", "gw") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(lockDir) })
	folder, err := os.Open(lockDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return map[string]halt{
		"right after its start":                        {[]string{"--config-file", pipe(t, dir, "settings")}, token, readsPipe(t, dir, "settings", "{}")},
		"after it has got the sockets":                 {[]string{"--tls-ticket-secret-file", pipe(t, dir, "secret")}, token, readsPipe(t, dir, "secret", strings.Repeat("s", 64))},
		"before it is ready":                           {[]string{"--http-addr", "unix:" + filepath.Join(lockDir, "s")}, token, waitsForLock(t, folder)},
		"after the other one has let go of the folder": {[]string{"--join-token-file", pipe(t, dir, "token")}, nil, readsPipe(t, dir, "token", joinToken)},
	}
}

// pipe makes a pipe with a name.
func pipe(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readsPipe(t *testing.T, dir, name, text string) func(int) func() {
	return func(int) func() {
		t.Helper()
		var w *os.File
		waittest.UntilNil(t, "a reader of "+name, func() (err error) {
			w, err = os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails while there is none
			return err
		})
		t.Cleanup(func() { w.Close() })
		return func() {
			t.Helper()
			if _, err := w.WriteString(text); err != nil {
				t.Error(err)
			}
			w.Close()
		}
	}
}

func waitsForLock(t *testing.T, folder *os.File) func(int) func() {
	return func(pid int) func() {
		t.Helper()
		waittest.UntilNil(t, "who waits for the lock", func() error {
			locks, err := os.ReadFile("/proc/locks")
			if err == nil && !regexp.MustCompile(fmt.Sprintf(`-> FLOCK .* %d `, pid)).Match(locks) {
				err = errors.New("nobody")
			}
			return err
		})
		return func() { _ = syscall.Flock(int(folder.Fd()), syscall.LOCK_UN) }
	}
}

// goesOn waits for some more requests.
func (l *load) goesOn(t *testing.T, more int64) {
	t.Helper()
	enough := l.sent.Load() + more
	waittest.UntilNil(t, "more requests", func() error {
		if n := l.sent.Load(); n < enough {
			return fmt.Errorf("%d were sent", n)
		}
		return nil
	})
}

// one is a node of one gateway that has one route, /main.
func one(t *testing.T, g *gateway, name string) (n *node, args []string) {
	t.Helper()
	_, revision, err := g.call("POST", "/api/v1/config/apply", fmt.Sprintf(`{"services":[{"name":"one","endpoints":[{"host":"127.0.0.1","port":%d}]}],"routes":[{"name":"main","path":"/main","service_id":"one"}]}`, service(t, "one")))
	if err != nil {
		t.Fatal(err)
	}
	n = &node{id: name, http: address(t), https: address(t), status: address(t)}
	args = []string{"--control-plane", g.stream, "--http-addr", n.http, "--https-addr", n.https, "--status-addr", n.status, "--data-dir", filepath.Join(g.dir, name), "--node-id", name}
	n.process = launch(t, bin(t, "dataplane"), []string{"GATEWAY_JOIN_TOKEN=" + joinToken}, args...)
	n.runs(revision)
	return n, args
}

// changes has the configuration change, and the node run that.
func changes(t *testing.T, g *gateway, n *node, name string) {
	t.Helper()
	_, revision, err := g.call("POST", "/api/v1/config/apply", fmt.Sprintf(`{"routes":[{"name":%q,"path":"/%[1]s","direct_response":{"body":"x"}}]}`, name))
	if err != nil {
		t.Fatal(err)
	}
	n.runs(revision)
}

// TestSuccessorIsKilled at each point of a replacement: no request fails, the node goes on with the configuration, and
// is replaced later.
func TestSuccessorIsKilled(t *testing.T) {
	g := newGateway(t)
	n, args := one(t, g, "n")
	stop := make(chan struct{})
	kept, fresh := start("http://"+n.http+"/main", 4, 150, stop), start("http://"+n.http+"/main", 4, 150, stop)
	fresh.client.Transport.(*http.Transport).DisableKeepAlives = true
	i, failures := 0, 0
	for at, h := range halts(t, t.TempDir()) {
		p := launch(t, n.name, h.env, append(append(args[:len(args):len(args)], "--replace"), h.args...)...)
		h.reached(p.cmd.Process.Pid)
		p.kill()
		if at != "right after its start" { // where the node does not know of it
			failures++
			waittest.UntilNil(t, "a word on who was killed "+at, func() error {
				if said := strings.Count(n.logs(), "has failed; this one goes on"); said != failures {
					return fmt.Errorf("it is said %d times, not %d", said, failures)
				}
				return nil
			})
		}
		i++
		changes(t, g, n, fmt.Sprint("after", i))
		kept.goesOn(t, 10)
		fresh.goesOn(t, 10)
	}
	if s := `error="it has ended before it said \"ready\""`; strings.Count(n.logs(), s) != 2 || strings.Count(n.logs(), strings.ReplaceAll(s, "ready", "taken")) != 1 {
		t.Errorf("it is not said when they have ended:\n%s", n.logs())
	}
	first := n.cmd.Process.Pid
	next := launch(t, n.name, n.env, append(args, "--replace")...)
	waittest.UntilNil(t, "the replacement", func() error {
		if !strings.Contains(next.logs(), "the node is replaced by this process") {
			return errors.New("it is not done")
		}
		return nil
	})
	changes(t, g, n, "replaced")
	if !strings.Contains(next.logs(), fmt.Sprint("process_before=", first)) {
		t.Errorf("another process than %d was replaced:\n%s", first, next.logs())
	}
	kept.goesOn(t, 10)
	fresh.goesOn(t, 10)
	close(stop)
	kept.check(t, "connections that are kept", 50)
	fresh.check(t, "new connections", 50)
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the first process: %v", err)
	}
}

// TestPredecessorIsKilled at each point of a replacement: the other process serves, also those who have connected when
// nobody accepted.
func TestPredecessorIsKilled(t *testing.T) {
	g := newGateway(t)
	i := 0
	for at, h := range halts(t, t.TempDir()) {
		i++
		n, args := one(t, g, fmt.Sprint("n", i))
		p := launch(t, n.name, h.env, append(append(args[:len(args):len(args)], "--replace"), h.args...)...)
		release := h.reached(p.cmd.Process.Pid)
		n.kill()
		var waiting net.Conn
		if at != "right after its start" { // when it has no socket yet
			var err error
			if waiting, err = net.Dial("tcp", n.http); err != nil {
				t.Fatalf("%s nobody listens: %v", at, err)
			}
			_ = waiting.SetDeadline(waittest.Deadline())
			_, _ = io.WriteString(waiting, "GET /main HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		}
		release()
		if waiting != nil {
			if res, err := io.ReadAll(waiting); err != nil || !bytes.HasSuffix(res, []byte("one")) {
				t.Errorf("%s: %q, %v", at, res, err)
			}
			_ = waiting.Close()
		}
		changes(t, g, n, fmt.Sprint("killed", i))
		last := launch(t, n.name, n.env, append(args, "--replace")...)
		waittest.UntilNil(t, "the next replacement", func() error {
			if !strings.Contains(last.logs(), fmt.Sprint("process_before=", p.cmd.Process.Pid)) {
				return errors.New("it is not done")
			}
			return nil
		})
		if code := last.terminate(); code != 0 {
			t.Errorf("%s: the last process ended with %d", at, code)
		}
	}
}

// TestPredecessorIsKilledBeforeItsOffer: there is nothing to take over, which is said, and the next process starts as
// any other.
func TestPredecessorIsKilledBeforeItsOffer(t *testing.T) {
	g := newGateway(t)
	n, args := one(t, g, "n")
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	args = append(args, "--replace")
	p := launch(t, n.name, n.env, args...)
	door := []byte(filepath.Join(g.dir, "n", "handover.sock"))
	waittest.UntilNil(t, "who knocks", func() error {
		sockets, err := os.ReadFile("/proc/net/unix")
		if k := bytes.Count(sockets, door); err == nil && k < 2 {
			err = errors.New("there are " + strconv.Itoa(k) + " sockets")
		}
		return err
	})
	n.kill()
	if err := p.cmd.Wait(); err == nil || !strings.Contains(p.logs(), `the running node does not hand over: it has ended before it said "offer"`) {
		t.Errorf("%v: %s", err, p.logs())
	}
	n.process = launch(t, n.name, n.env, args...)
	changes(t, g, n, "again")
	if code := n.terminate(); code != 0 {
		t.Errorf("the last process ended with %d", code)
	}
}
