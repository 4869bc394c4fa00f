package faults

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// Faults are all of them, in the order in which they go over the system.
func Faults() []Fault {
	const lasts = 10 * time.Second
	stores := func(do func(*testserver.Wire)) func(*System) {
		return func(s *System) {
			for _, r := range s.replicas {
				do(r.store)
			}
		}
	}
	etcds := func(do func(*testserver.Wire)) func(*System) {
		return func(s *System) {
			for _, r := range s.replicas {
				do(r.etcd)
			}
		}
	}
	return []Fault{
		{Name: "nothing", Begin: func(*System) {}, End: func(*System) {}, Lasts: lasts, Finds: true},
		{Name: "PostgreSQL killed", Begin: func(s *System) { s.postgres.Stop() },
			End: func(s *System) { s.postgres.Start() }, Lasts: lasts},
		{Name: "PostgreSQL frozen", Begin: stores((*testserver.Wire).Freeze), End: stores((*testserver.Wire).Thaw), Lasts: 2 * lasts},
		{Name: "PostgreSQL cut off", Begin: stores((*testserver.Wire).Cut), End: stores((*testserver.Wire).Mend), Lasts: lasts},
		{Name: "PostgreSQL frozen for one control plane", Begin: func(s *System) { s.replicas[0].store.Freeze() },
			End: func(s *System) { s.replicas[0].store.Thaw() }, Lasts: 2 * lasts},
		{Name: "PostgreSQL's disk full", Begin: (*System).fill, End: (*System).free, Lasts: lasts, Skip: (*System).noDisk},
		{Name: "PostgreSQL restored from a backup", Begin: func(s *System) { s.backup = s.postgres.Dump() },
			End: func(s *System) { s.postgres.Restore(s.backup) }, Lasts: lasts, Restores: true},
		{Name: "a control plane killed", Begin: func(s *System) { s.replicas[0].kill() },
			End: func(s *System) { s.replicas[0].start() }, Lasts: lasts},
		{Name: "a control plane frozen", Begin: func(s *System) { s.replicas[0].signal(syscall.SIGSTOP) },
			End: func(s *System) { s.replicas[0].signal(syscall.SIGCONT) }, Lasts: 2 * lasts},
		{Name: "all control planes killed", Begin: func(s *System) {
			for _, r := range s.replicas {
				r.kill()
			}
		}, End: func(s *System) {
			for _, r := range s.replicas {
				r.start()
			}
		}, Lasts: lasts, Finds: true},
		{Name: "etcd killed", Begin: func(s *System) { s.etcd.Kill() },
			End: func(s *System) { s.etcd.Restart() }, Lasts: lasts, Finds: true},
		{Name: "etcd frozen", Begin: etcds((*testserver.Wire).Freeze), End: etcds((*testserver.Wire).Thaw), Lasts: 2 * lasts, Finds: true},
		{Name: "etcd cut off", Begin: etcds((*testserver.Wire).Cut), End: etcds((*testserver.Wire).Mend), Lasts: lasts, Finds: true},
		{Name: "etcd lost, all control planes killed", Begin: func(s *System) {
			s.etcd.Replace()
			for _, r := range s.replicas {
				r.kill()
				r.start()
			}
		}, End: func(s *System) { s.register(s.services[0]) }, Lasts: lasts, Finds: true},
	}
}

// diskSize is enough for the server and not for much more.
const diskSize = "size=192m"

// startPostgreSQL starts the server on a small file system of its own, where that can be had.
func (s *System) startPostgreSQL() {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "gateway-faults")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if syscall.Mount("tmpfs", dir, "tmpfs", 0, diskSize+",mode=0755") == nil {
		s.disk = dir
		s.t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		before, had := os.LookupEnv("TMPDIR")
		_ = os.Setenv("TMPDIR", dir)
		defer func() {
			if had {
				_ = os.Setenv("TMPDIR", before)
			} else {
				_ = os.Unsetenv("TMPDIR")
			}
		}()
	}
	s.postgres = testserver.NewPostgreSQL(s.t)
}

// noDisk returns why the disk can't be filled.
func (s *System) noDisk() string {
	if s.disk == "" {
		return "mounting a small file system is not possible here"
	}
	return ""
}

func (s *System) filler() string { return filepath.Join(s.disk, "filler") }

// fill leaves no room on PostgreSQL's disk.
func (s *System) fill() {
	f, err := os.Create(s.filler())
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			s.t.Fatal(err)
		}
	}
}

// free makes room again, and starts the server where it has given up.
func (s *System) free() {
	if err := os.Remove(s.filler()); err != nil {
		s.t.Fatal(err)
	}
	if !s.postgres.Answers() {
		s.t.Log("the server has given up, and is started again")
		s.postgres.Stop()
		s.postgres.Start()
	}
	waittest.Until(s.t, "PostgreSQL", s.postgres.Answers)
}
