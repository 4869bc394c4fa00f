package listener

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"gateway.internal/shared/waittest"
)

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := run(t, "unix:"+path, Settings{SocketMode: 0o620})
	if got, err := r.ask("", "hello\n"); got != `unknown http "hello\n"` || r.URL() != "http://unix:"+path {
		t.Errorf("%q, %v; %s", got, err, r.URL())
	}
	if file, err := os.Lstat(path); err != nil || file.Mode().Perm() != 0o620 {
		t.Errorf("%v, %v", file, err)
	}
	if _, err := Bind("unix:"+path, DefaultSocketMode); err == nil || !strings.Contains(err.Error(), "live process") {
		t.Errorf("it was taken from a live process: %v", err)
	}
	_ = r.ln.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}
}

func TestDeadSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = dead.Close()
	ln, err := Bind("unix:"+path, DefaultSocketMode)
	if err != nil {
		t.Fatal(err)
	}
	// One that has taken the place of another keeps its file when the other one ends.
	_ = os.Remove(path)
	next, err := Bind("unix:"+path, DefaultSocketMode)
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	_ = next.Close()
}

func TestAddressesThatCantBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, says := range map[string]string{
		"unix:": "unix:PATH", "unix:@": "unix:PATH", "unix:" + file: "no socket", "unix:/nowhere/s": "nowhere", "unix:/" + strings.Repeat("x", 107): "107 bytes",
	} {
		if _, err := Bind(address, DefaultSocketMode); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestAbstractSocket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has them")
	}
	r := run(t, "unix:@"+t.TempDir(), Settings{Proxies: proxies(t, "unix"), ProxyProtocol: ProxyProtocolRequire, HeaderTimeout: waittest.Limit})
	if got, err := r.ask("", text4+"hello\n"); got != `192.0.2.7 http "hello\n"` {
		t.Errorf("%q, %v", got, err)
	}
}
