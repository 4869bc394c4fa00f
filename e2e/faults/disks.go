package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gateway.internal/controlplane/testserver"
	"gateway.internal/shared/waittest"
)

// diskSize is enough for a server and not for much more.
const diskSize = "size=192m"

// smallDisk returns an empty folder, and whether it is a small file system of its own.
func (s *System) smallDisk() (dir string, small bool) {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "gateway-faults")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if syscall.Mount("tmpfs", dir, "tmpfs", 0, diskSize+",mode=0755") != nil {
		return dir, false
	}
	s.t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir, true
}

// startPostgreSQL starts the server on a small file system of its own, where that can be had.
func (s *System) startPostgreSQL() {
	s.t.Helper()
	if dir, small := s.smallDisk(); small {
		s.disk = dir
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

// etcdQuota is how large etcd's database may be.
const etcdQuota = 32 << 20

// startEtcd starts etcd so too, with a quota.
func (s *System) startEtcd() {
	s.t.Helper()
	dir, small := s.smallDisk()
	if small {
		s.etcdDisk = dir
	}
	s.etcd = testserver.NewEtcdIn(s.t, dir, "--quota-backend-bytes", fmt.Sprint(etcdQuota))
}

// noDisk returns why a disk can't be filled.
func noDisk(dir string) string {
	if dir == "" {
		return "mounting a small file system is not possible here"
	}
	return ""
}

func filler(dir string) string { return filepath.Join(dir, "filler") }

// fill leaves no room on a disk.
func (s *System) fill(dir string) {
	f, err := os.Create(filler(dir))
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

// free makes room for PostgreSQL again, and starts the server where it has given up.
func (s *System) free() {
	if err := os.Remove(filler(s.disk)); err != nil {
		s.t.Fatal(err)
	}
	if !s.postgres.Answers() {
		s.t.Log("the server has given up, and is started again")
		s.postgres.Stop()
		s.postgres.Start()
	}
	waittest.Until(s.t, "PostgreSQL", s.postgres.Answers)
}

// junk is what is written beside what anybody asks for.
const junk = "/junk/"

// writeJunk writes to etcd until that fails, and returns why; nil: a whole quota of it was written.
func (s *System) writeJunk() error {
	text := strings.Repeat("x", 512<<10)
	for i := range 2 * etcdQuota / len(text) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := s.registry.Put(ctx, fmt.Sprint(junk, i), text)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// fillEtcd leaves no room on etcd's disk, and has it notice that.
func (s *System) fillEtcd() {
	s.fill(s.etcdDisk)
	err := s.writeJunk()
	if err == nil {
		s.t.Fatal("etcd takes all that is written to a full disk")
	}
	s.t.Logf("a write to etcd: %v", err)
}

// freeEtcd makes room again, and starts etcd where it has given up.
func (s *System) freeEtcd() {
	if err := os.Remove(filler(s.etcdDisk)); err != nil {
		s.t.Fatal(err)
	}
	if s.etcd.Ended() {
		s.t.Log("etcd has given up, and is started again")
		s.etcd.Restart()
	}
	s.clearJunk()
}

// useUpQuota writes until etcd takes no more.
func (s *System) useUpQuota() {
	if err := s.writeJunk(); !errors.Is(err, rpctypes.ErrNoSpace) {
		s.t.Fatalf("etcd did not say that its quota is used up, but %v", err)
	}
}

// giveQuota does what the documentation of etcd says: compact, defragment, and disarm the alarm.
func (s *System) giveQuota() { s.clearJunk() }

// clearJunk deletes what was written, and gives the room of it back.
func (s *System) clearJunk() {
	s.inRegistry(func(ctx context.Context) error {
		r, err := s.registry.Delete(ctx, junk, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		_, err = s.registry.Compact(ctx, r.Header.GetRevision(), clientv3.WithCompactPhysical())
		if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
		if _, err := s.registry.Defragment(ctx, s.etcd.Endpoint); err != nil {
			return err
		}
		_, err = s.registry.AlarmDisarm(ctx, &clientv3.AlarmMember{})
		return err
	})
}
