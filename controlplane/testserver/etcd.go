package testserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gateway.internal/shared/waittest"
)

// Etcd is one running member of an etcd cluster. Its data outlives Kill and Restart.
type Etcd struct {
	// Endpoint is the address for clients, HOST:PORT.
	Endpoint string

	t    testing.TB
	bin  string
	dir  string
	name string
	peer string
	all  string // --initial-cluster
	more []string
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
	said bytes.Buffer  // its standard error; to be read when it is gone
}

// NewEtcd starts a cluster of one member.
func NewEtcd(t testing.TB) *Etcd {
	t.Helper()
	return NewEtcdCluster(t, 1)[0]
}

// NewEtcdIn is NewEtcd with its data in a folder, and more flags.
func NewEtcdIn(t testing.TB, dir string, flags ...string) *Etcd {
	t.Helper()
	return newEtcdCluster(t, []string{dir}, flags)[0]
}

// NewEtcdCluster starts a cluster of so many members.
func NewEtcdCluster(t testing.TB, members int) []*Etcd {
	t.Helper()
	dirs := make([]string, members)
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	return newEtcdCluster(t, dirs, nil)
}

func newEtcdCluster(t testing.TB, dirs, flags []string) []*Etcd {
	t.Helper()
	bin, err := FindTool("etcd")
	if err != nil {
		t.Fatal(err)
	}
	cluster := make([]*Etcd, len(dirs))
	var all []string
	for i := range cluster {
		e := &Etcd{t: t, bin: bin, dir: dirs[i], name: fmt.Sprint("m", i+1), more: flags}
		e.Endpoint = net.JoinHostPort("127.0.0.1", fmt.Sprint(FreePort(t)))
		e.peer = "http://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(FreePort(t)))
		all = append(all, e.name+"="+e.peer)
		cluster[i] = e
	}
	for _, e := range cluster {
		e.all = strings.Join(all, ",")
		e.start()
		t.Cleanup(e.Kill)
	}
	for _, e := range cluster {
		e.await()
	}
	return cluster
}

func (e *Etcd) start() {
	e.t.Helper()
	client := "http://" + e.Endpoint
	// A killed process loses nothing without fsync; only a machine that loses power does.
	e.cmd = exec.Command(e.bin, "--name", e.name, "--data-dir", filepath.Join(e.dir, "data"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", e.peer, "--initial-advertise-peer-urls", e.peer,
		"--initial-cluster", e.all, "--heartbeat-interval", "50", "--election-timeout", "500")
	e.cmd.Args = append(e.cmd.Args, e.more...)
	e.cmd.Dir = e.dir
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	e.said.Reset()
	e.cmd.Stderr = &e.said
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	gone, cmd := make(chan struct{}), e.cmd
	e.gone = gone
	go func() {
		defer close(gone)
		_ = cmd.Wait()
	}()
}

// await returns when the member has a leader and answers.
func (e *Etcd) await() {
	e.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	waittest.UntilNil(e.t, "etcd", func() error {
		select {
		case <-e.gone:
			e.t.Fatalf("etcd has ended by itself:\n%s", e.said.String())
		default:
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+e.Endpoint+"/health", nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("/health answers %s", res.Status)
		}
		return nil
	})
}

// Kill ends the member with SIGKILL; one that does not run stays so.
func (e *Etcd) Kill() {
	if e.cmd == nil {
		return
	}
	_ = e.cmd.Process.Kill()
	<-e.gone
	e.cmd = nil
}

// Ended reports whether the member has ended by itself.
func (e *Etcd) Ended() bool {
	select {
	case <-e.gone:
		return e.cmd != nil
	default:
		return false
	}
}

// Restart starts the member again with its data, and returns when it answers.
func (e *Etcd) Restart() {
	e.t.Helper()
	e.Kill()
	e.start()
	e.await()
}

// Replace puts a new and empty member in the place of this one, as after a loss of its disk. Only for a cluster of one.
func (e *Etcd) Replace() {
	e.t.Helper()
	e.Kill()
	if err := os.RemoveAll(filepath.Join(e.dir, "data")); err != nil {
		e.t.Fatal(err)
	}
	e.Restart()
}

// FindTool looks where make tools puts what tests need: PATH, the folder of tools of this machine, and the repository's
// .bin.
func FindTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	var folders []string
	if cache, err := os.UserCacheDir(); err == nil {
		folders = append(folders, filepath.Join(cache, "gateway-tools"))
	}
	if root, ok := repository(); ok {
		folders = append(folders, filepath.Join(root, ".bin"))
	}
	for _, f := range folders {
		path := filepath.Join(f, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: make tools (looked in PATH and in %s)", name, strings.Join(folders, ", "))
}

// repository returns the folder of go.work, at or above the working directory.
func repository() (string, bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}
