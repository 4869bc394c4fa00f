package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// waitForExit is longer than dev gives its planes.
const waitForExit = 30 * time.Second

// started is a running "gatewayctl dev" with binaries, ports and temporary folder of its own.
type started struct {
	t     *testing.T
	cmd   *exec.Cmd
	temp  string
	proxy string

	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (s *started) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *started) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func buildAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), "./controlplane/cmd/gatewayctl", "./controlplane/cmd/controlplane", "./dataplane/cmd/dataplane")
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func startDev(t *testing.T, bin string) *started {
	t.Helper()
	s := &started{t: t, temp: t.TempDir()}
	args := []string{"dev"}
	for _, name := range []string{"--http-addr", "--https-addr", "--status-addr", "--rest-addr", "--grpc-addr", "--stream-addr"} {
		address := fmt.Sprint("127.0.0.1:", testserver.FreePort(t))
		if name == "--http-addr" {
			s.proxy = "http://" + address
		}
		args = append(args, name, address)
	}
	s.cmd = exec.Command(filepath.Join(bin, "gatewayctl"), args...)
	s.cmd.Env = append(os.Environ(), "TMPDIR="+s.temp, "GATEWAY_STORE=postgres://nobody@127.0.0.1:1/none")
	s.cmd.Stdout, s.cmd.Stderr = s, s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	waittest.UntilNil(t, "gatewayctl dev", func() error {
		if !strings.Contains(s.said(), "Ctrl-C") {
			return errors.New(s.said())
		}
		return nil
	})
	return s
}

// processes returns what runs below a process, by command name.
func processes(t *testing.T, parent int) map[string]int {
	t.Helper()
	found := map[string]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skip("there is no /proc")
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if open < 0 || end < 0 {
			continue
		}
		fields := strings.Fields(string(text[end+1:])) // state, parent, ...
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) && fields[0] != "Z" {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text[:open]))); err == nil {
				found[string(text[open+1:end])] = pid
			}
		}
	}
	return found
}

func (s *started) get(path string) (status int, body map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.proxy+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	_ = json.NewDecoder(res.Body).Decode(&body)
	return res.StatusCode, body
}

func (s *started) awaitGone(pids map[string]int) {
	s.t.Helper()
	for name, pid := range pids {
		waittest.UntilNil(s.t, "the end of "+name, func() error {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				if !strings.Contains(string(text), ") Z ") {
					return fmt.Errorf("%d still runs", pid)
				}
			}
			return nil
		})
	}
}

func (s *started) awaitExit() error {
	s.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	ctx, cancel := context.WithTimeout(s.t.Context(), waitForExit)
	defer cancel()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		_ = s.cmd.Process.Kill()
		<-ended
		s.t.Fatalf("dev does not end:\n%s", s.said())
		return nil
	}
}

func TestDev(t *testing.T) {
	bin := buildAll(t)
	t.Run("serves and ends cleanly", func(t *testing.T) {
		s := startDev(t, bin)
		children := processes(t, s.cmd.Process.Pid)
		if len(children) != 2 {
			t.Fatalf("below dev there are %v", children)
		}
		instances := map[any]int{}
		for range 8 {
			status, body := s.get("/demo/hello")
			if status != http.StatusOK || body["path"] != "/demo/hello" {
				t.Fatalf("%d %v", status, body)
			}
			instances[body["instance"]]++
		}
		if instances["demo-1"] != 6 || instances["demo-2"] != 2 {
			t.Errorf("8 requests were balanced %v, not 3:1", instances)
		}
		if status, body := s.get("/api/v1/proxy/things/7"); status != http.StatusOK || body["path"] != "/things/7" {
			t.Errorf("the rewritten route: %d %v", status, body)
		}
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := s.awaitExit(); err != nil {
			t.Errorf("%v\n%s", err, s.said())
		}
		s.awaitGone(children)
		if left, _ := filepath.Glob(filepath.Join(s.temp, "*")); len(left) > 0 {
			t.Errorf("it leaves %v", left)
		}
	})
	t.Run("leaves nothing behind when it is killed", func(t *testing.T) {
		s := startDev(t, bin)
		children := processes(t, s.cmd.Process.Pid)
		_ = s.cmd.Process.Kill()
		s.awaitGone(children)
	})
	t.Run("ends with a plane that ends", func(t *testing.T) {
		s := startDev(t, bin)
		children := processes(t, s.cmd.Process.Pid)
		if err := syscall.Kill(children["controlplane"], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := s.awaitExit(); err == nil || !strings.Contains(s.said(), "controlplane has ended") {
			t.Errorf("%v\n%s", err, s.said())
		}
		s.awaitGone(children)
	})
}

func TestDevNamesTheAddressThatIsTaken(t *testing.T) {
	serve(t) // listens somewhere
	taken := os.Getenv("GATEWAYCTL_SERVER")
	_, complaint, code := gatewayctl(t, "", "dev", "--http-addr", taken)
	if code == 0 || !strings.Contains(complaint, taken) || !strings.Contains(complaint, "--help") {
		t.Errorf("exit %d, %s", code, complaint)
	}
}
