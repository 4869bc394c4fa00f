package chaos

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"gateway.internal/controlplane/testserver"
)

// BackendVariable is set in the environment of backends: the test's own binary starts as one then.
const BackendVariable = "GATEWAY_CHAOS_BACKEND"

// endpoint is a backend's process, as seen by who controls it.
type endpoint struct {
	t       testing.TB
	name    string
	host    string
	port    int
	network *network // its own; nil: the machine's
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies *bufio.Reader
}

// startEndpoint starts a backend on a free port, in a network of its own where that is asked for.
func startEndpoint(t testing.TB, name string, apart bool) *endpoint {
	t.Helper()
	e := &endpoint{t: t, name: name, host: "127.0.0.1", port: testserver.FreePort(t)}
	if apart {
		e.network = newNetwork(e.port)
		e.host = e.network.inside
	}
	e.start()
	t.Cleanup(e.kill)
	return e
}

func (e *endpoint) address() string { return fmt.Sprintf("%s:%d", e.host, e.port) }

// start starts the process, anew where it was killed, and returns once it listens.
func (e *endpoint) start() {
	e.t.Helper()
	self, err := os.Executable()
	if err != nil {
		e.t.Fatal(err)
	}
	e.cmd = exec.Command(self, e.name, e.address())
	e.cmd.Env = append(os.Environ(), BackendVariable+"=1")
	e.cmd.Stderr = os.Stderr
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if e.network != nil {
		e.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	if e.in, err = e.cmd.StdinPipe(); err != nil {
		e.t.Fatal(err)
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.replies = bufio.NewReader(out)
	if e.network != nil {
		if err := e.network.connect(e.cmd.Process.Pid); err != nil {
			e.t.Fatal(err)
		}
	}
	e.tell("listen")
}

func (e *endpoint) reply() string {
	e.t.Helper()
	line, err := e.replies.ReadString('\n')
	if err != nil || len(line) > 6 && line[:6] == "error:" {
		e.t.Fatalf("backend %s: %s%v", e.name, line, err)
	}
	return line[:len(line)-1]
}

// tell gives the process a command and returns its reply.
func (e *endpoint) tell(command string) string {
	e.t.Helper()
	if _, err := fmt.Fprintln(e.in, command); err != nil {
		e.t.Fatalf("backend %s: %v", e.name, err)
	}
	return e.reply()
}

// kill ends the process with SIGKILL.
func (e *endpoint) kill() {
	if e.cmd != nil {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
		e.cmd = nil
	}
}
