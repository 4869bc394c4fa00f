package testserver

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// NewStandby starts a streaming replica of the server, which takes no writes until Promote.
func (p *PostgreSQL) NewStandby(t testing.TB) *PostgreSQL {
	t.Helper()
	dir, err := os.MkdirTemp("", "gateway-standby")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if p.as != nil {
		if err := os.Chown(dir, int(p.as.Uid), int(p.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s := &PostgreSQL{t: t, bin: p.bin, dir: dir, port: FreePort(t), as: p.as}
	backup := s.command("pg_basebackup", "-h", "127.0.0.1", "-p", fmt.Sprint(p.port), "-U", "gateway", "-D", filepath.Join(dir, "data"), "-R", "-X", "stream", "-c", "fast",
		"--no-sync")
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	s.URL = fmt.Sprintf("postgres://gateway@127.0.0.1:%d/postgres?sslmode=disable", s.port)
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Promote makes a standby take writes.
func (p *PostgreSQL) Promote() {
	p.t.Helper()
	if out, err := p.command("pg_ctl", "promote", "-w", "-D", filepath.Join(p.dir, "data")).CombinedOutput(); err != nil {
		p.t.Fatalf("pg_ctl promote: %v\n%s", err, out)
	}
}

// Address is the server's host and port.
func (p *PostgreSQL) Address() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }
