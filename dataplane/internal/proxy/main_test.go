package proxy

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// looping makes nodes serve every connection over HTTP/1 in a loop from its first request on, as far as it can be: all
// tests run with it and without.
var looping bool

// loopingVariable tells a process of the tests that it is the one that runs them with loops.
const loopingVariable = "GATEWAY_TEST_LOOPING"

// TestMain runs all tests twice, without loops and, in a process beside, with them: they wait more than they compute.
// What measures, or looks for inputs, has the machine for itself, and does one after the other.
func TestMain(m *testing.M) {
	flag.Parse()
	looping = os.Getenv(loopingVariable) != ""
	if looping {
		os.Exit(run(m))
	}
	if alone() {
		code := run(m)
		if looping = true; code == 0 {
			code = run(m)
		}
		os.Exit(code)
	}
	var said bytes.Buffer
	other := exec.Command(os.Args[0], append(os.Args[1:], "-test.testlogfile=")...)
	other.Env = append(os.Environ(), loopingVariable+"=yes")
	other.Stdout, other.Stderr = &said, &said
	err := other.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests with loops:", err)
		os.Exit(1)
	}
	code := run(m)
	if err = other.Wait(); err != nil {
		said.WriteString("the tests with loops: " + err.Error() + "\n")
		code = 1
	}
	_, _ = os.Stdout.Write(said.Bytes())
	os.Exit(code)
}

// alone reports whether the tests are not to run twice at once.
func alone() bool {
	for _, name := range []string{"bench", "fuzz", "list", "coverprofile", "cpuprofile", "memprofile", "trace"} {
		if f := flag.Lookup("test." + name); f != nil && f.Value.String() != "" {
			return true
		}
	}
	worker := flag.Lookup("test.fuzzworker")
	return worker != nil && worker.Value.String() == "true"
}

// run runs the tests, and looks for goroutines that they have left.
func run(m *testing.M) int {
	if code := m.Run(); code != 0 {
		return code
	}
	err := goleak.Find(
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).writerDescriptor.func1"), // what the process beside says
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		return 1
	}
	return 0
}

// once skips the second time that tests run, for what is the same then: connections of HTTP/2 are never served in a
// loop, and some tests always are.
func once(t *testing.T) {
	t.Helper()
	if looping {
		t.Skip("the same as without loops")
	}
}
