package testserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"gateway.internal/shared/waittest"
)

// NewPgBouncer starts a pooler in session mode before a server, and returns the URL of the database through it.
func NewPgBouncer(t testing.TB, p *PostgreSQL) string {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		if path = "/usr/sbin/pgbouncer"; exec.Command(path, "--version").Run() != nil {
			t.Fatal("PgBouncer is not installed: make tools, or apt-get install pgbouncer")
		}
	}
	port := FreePort(t)
	write := func(name, text string) string {
		file := filepath.Join(p.dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	users := write("users.txt", `"gateway" ""`+"\n")
	settings := write("pgbouncer.ini", fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%d\n[pgbouncer]\n"+
		"listen_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = trust\nauth_file = %s\n"+
		"pool_mode = session\n", p.port, port, users))
	cmd := exec.Command(path, "-q", settings)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // which ends it at once
		_ = cmd.Wait()
	})
	waittest.UntilNil(t, "PgBouncer", func() error {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return fmt.Sprintf("postgres://gateway@127.0.0.1:%d/postgres?sslmode=disable", port)
}
