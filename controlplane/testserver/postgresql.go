// Package testserver starts real servers for tests: on free ports of the loopback, in temporary folders, ended with the
// test. A test whose server is not installed fails, and says how to install it.
package testserver

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gateway.internal/shared/waittest"
)

// PostgreSQL is a running server with an empty database. Its data outlives Stop and Start.
type PostgreSQL struct {
	// URL is that of the database.
	URL string

	t    testing.TB
	bin  string
	dir  string
	port int
	as   *syscall.Credential
	cmd  *exec.Cmd
}

// NewPostgreSQL starts a server.
func NewPostgreSQL(t testing.TB) *PostgreSQL {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		t.Fatal("PostgreSQL is not installed: make tools, or apt-get install postgresql")
	}
	// t.TempDir is closed to the other user that the server runs as.
	dir, err := os.MkdirTemp("", "gateway-postgresql")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &PostgreSQL{t: t, bin: bins[len(bins)-1], dir: dir, port: FreePort(t)}
	if os.Geteuid() == 0 { // the server refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	initdb := p.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "gateway", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	p.URL = fmt.Sprintf("postgres://gateway@127.0.0.1:%d/postgres?sslmode=disable", p.port)
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

func (p *PostgreSQL) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Dir returns the folder of the server's data.
func (p *PostgreSQL) Dir() string { return filepath.Join(p.dir, "data") }

// Start starts the server, and returns when it takes connections.
func (p *PostgreSQL) Start() {
	p.t.Helper()
	// A killed process loses nothing without fsync; only a machine that loses power does.
	p.cmd = p.command("postgres", "-D", filepath.Join(p.dir, "data"), "-p", strconv.Itoa(p.port), "-c", "fsync=off",
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+p.dir, "-c", "max_connections=50")
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	waittest.Until(p.t, "PostgreSQL", p.Answers)
}

// Stop stops the server at once, without waiting for its clients.
func (p *PostgreSQL) Stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	_ = p.cmd.Wait()
	p.cmd = nil
}

// Answers reports whether the server takes connections now.
func (p *PostgreSQL) Answers() bool {
	return p.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "gateway").Run() == nil
}

// Dump returns a backup of the database, as SQL that replaces what is there.
func (p *PostgreSQL) Dump() string {
	p.t.Helper()
	out, err := p.command("pg_dump", "--clean", "--if-exists", "--dbname", p.URL).Output()
	if err != nil {
		p.t.Fatalf("pg_dump: %v", err)
	}
	return string(out)
}

// SQL runs statements, and returns what they return, a row a line.
func (p *PostgreSQL) SQL(text string) (string, error) {
	out, err := p.command("psql", "--quiet", "--no-align", "--tuples-only", "--dbname", p.URL, "--command", text).Output()
	return strings.TrimSpace(string(out)), err
}

// keepOut has control planes wait, all of which begin with this table, before they and the restore wait for each
// other in a circle.
const keepOut = "DO $$ BEGIN IF to_regclass('meta') IS NOT NULL THEN LOCK TABLE meta; END IF; END $$;\n"

// Restore brings the database to a backup, in one transaction.
func (p *PostgreSQL) Restore(backup string) {
	p.t.Helper()
	psql := p.command("psql", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--dbname", p.URL)
	psql.Stdin = strings.NewReader(keepOut + backup)
	if out, err := psql.CombinedOutput(); err != nil {
		p.t.Fatalf("psql: %v\n%s", err, out)
	}
}

// WaitFor waits as waittest.UntilNil does.
func WaitFor(t testing.TB, what string, ready func() error) {
	t.Helper()
	waittest.UntilNil(t, what, ready)
}
