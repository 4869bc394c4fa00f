package sql

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/store"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
	"gateway.internal/shared/waittest"
)

// newRoute is a plan that adds a route.
func newRoute(t *testing.T, c *config.Config, name string) *config.Plan {
	t.Helper()
	plan, err := c.Plan([]config.Edit{{Kind: config.Route, Put: &configv1.Route{Name: name, Path: "/" + name, DirectResponse: &configv1.DirectResponse{}}}}, config.PlanOptions{Now: time.Now(), NewID: uuid.NewString})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// commitRoute commits a route to a new store's data, whatever was committed before.
func commitRoute(t *testing.T, s *Store, head store.Head, name string) (store.Revision, error) {
	t.Helper()
	plan := newRoute(t, config.Empty(), name)
	return s.Commit(t.Context(), head, func([]store.Revision) (*store.Draft, error) {
		return &store.Draft{Hash: plan.Config.Hash(), Changes: plan.Changes}, nil
	})
}

func TestDiskFull(t *testing.T) {
	s := opener("embedded:" + filepath.Join(t.TempDir(), "gateway.db"))(t).(*Store)
	defer s.Close()
	head, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.db.SetMaxOpenConns(1)                                                               // a pragma is of one connection
	if _, err := s.db.ExecContext(t.Context(), "PRAGMA max_page_count = 1"); err != nil { // no more than there are
		t.Fatal(err)
	}
	for n := 0; err == nil; n++ {
		if n == 10_000 {
			t.Fatal("the disk does not fill up")
		}
		var r store.Revision
		if r, err = commitRoute(t, s, head, fmt.Sprint("r", n)); err == nil {
			head.Number = r.Number
		}
	}
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v", err)
	}
	if _, err := s.db.ExecContext(t.Context(), "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if r, err := commitRoute(t, s, head, "last"); err != nil || r.Number != head.Number+1 {
		t.Errorf("with room again: %v, %v", r.Number, err)
	}
}

// TestKill kills a process that commits, at any moment, and checks that nothing that it said to be committed is lost.
func TestKill(t *testing.T) {
	if url := os.Getenv("GATEWAY_TEST_COMMIT_TO"); url != "" {
		commitForever(t, url)
		return
	}
	path := filepath.Join(t.TempDir(), "gateway.db")
	said := 0
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$", "-test.v")
		cmd.Env = append(os.Environ(), "GATEWAY_TEST_COMMIT_TO=embedded:"+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var killer *time.Timer
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n, ok := strings.CutPrefix(lines.Text(), "committed ")
			if !ok {
				continue
			}
			if said, err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
			if killer == nil {
				killer = time.AfterFunc(rand.N(300*time.Millisecond), func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		if killer == nil {
			t.Fatal("the process ended before it committed anything")
		}
		s := opener("embedded:" + path)(t).(*Store)
		head, c, err := s.Load(t.Context())
		if err != nil || int(head.Number) < said || c.Len(config.Route) != int(head.Number) {
			t.Errorf("said %d, head %d with %d routes, %v", said, head.Number, c.Len(config.Route), err)
		}
		var check string
		if err := s.db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
			t.Errorf("integrity: %s, %v", check, err)
		}
		_ = s.Close()
	}
}

func commitForever(t *testing.T, url string) {
	s := opener(url)(t)
	head, c, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for {
		name := fmt.Sprintf("r%d", head.Number+1)
		plan := newRoute(t, c, name)
		r, err := s.Commit(context.Background(), head, func([]store.Revision) (*store.Draft, error) {
			return &store.Draft{Hash: plan.Config.Hash(), Changes: plan.Changes}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		head.Number, c = r.Number, plan.Config
		fmt.Println("committed", r.Number)
	}
}

// TestFileGone: a file that is deleted or replaced while it is open takes no more commits: they would be lost with the
// process.
func TestFileGone(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"deleted": os.Remove,
		"replaced": func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "g.db")
			s := opener("embedded:" + path)(t).(*Store)
			defer s.Close()
			head, _, err := s.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := lose(path); err != nil {
				t.Fatal(err)
			}
			if _, err := commitRoute(t, s, head, "a"); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "file") {
				t.Errorf("the next commit: %v", err)
			}
			waittest.UntilNil(t, "word of it", func() error {
				if s.Err() == nil {
					return errors.New("the store takes itself for there")
				}
				return nil
			})
		})
	}
}

// TestPurgedKeysAreNotInTheFile looks for a key in all that the engine has on disk.
func TestPurgedKeysAreNotInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.db")
	s := openSealed(t, path, nil) // without encryption, which would hide the key anyway
	const key = "the key that nobody is to find"
	now := timestamppb.Now()
	m := &configv1.Certificate{Id: "a", Name: "a", Version: 1, CreatedAt: now, UpdatedAt: now}
	m.KeyPem = strings.Repeat(key, 1000)
	e := configtest.Entry(t, m)
	for _, ch := range []config.Change{{Kind: config.Certificate, After: e}, {Kind: config.Certificate, Before: e}} {
		head, _, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(t.Context(), head, func([]store.Revision) (*store.Draft, error) {
			return &store.Draft{Changes: []config.Change{ch}}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	found := func() (in []string) {
		for _, p := range []string{path, path + "-wal", path + "-shm"} {
			if text, err := os.ReadFile(p); err == nil && strings.Contains(string(text), key) {
				in = append(in, filepath.Base(p))
			}
		}
		return in
	}
	if len(found()) == 0 {
		t.Fatal("the key was not there before")
	}
	if got, err := s.PurgeSecrets(t.Context(), false); err != nil || got.Keys != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if in := found(); len(in) > 0 {
		t.Errorf("the key is still in %v", in)
	}
}

// TestUnreadableDiscovered: what is kept for one service and can't be read does not keep the others from being read.
func TestUnreadableDiscovered(t *testing.T) {
	var log lines
	s, err := Open(t.Context(), "embedded:"+filepath.Join(t.TempDir(), "g.db"), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found := []store.Discovered{{ServiceID: "a", Question: "q"}, {ServiceID: "b", Question: "q"}}
	if err := s.KeepDiscovered(t.Context(), found, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.ExecContext(t.Context(), "UPDATE discovered SET endpoints = x'ff' WHERE service_id = 'a'"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Discovered(t.Context())
	if err != nil || len(got) != 1 || got[0].ServiceID != "b" || log.count("service_id=a") != 1 {
		t.Errorf("%v, %v; logged:\n%s", got, err, log.text())
	}
}

// TestNoRoom: a store whose disk is full can be read, and says that it takes no writes until there is room again.
func TestNoRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("mounting is not possible here: ", err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	var log lines
	s, err := Open(t.Context(), "embedded:"+filepath.Join(dir, "g.db"), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	head, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if _, err := commitRoute(t, s, head, "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a commit: %v", err)
	}
	waittest.Until(t, "word of the full disk", func() bool { return errors.Is(s.Err(), errNoRoom) })
	if _, _, err := s.Load(t.Context()); err != nil {
		t.Errorf("it can't be read: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "word of the room", func() bool { return s.Err() == nil })
	if s.presence.full.Load() {
		t.Error("room is looked for, which costs a write, though there is some")
	}
	if r, err := commitRoute(t, s, head, "a"); err != nil || r.Number != 1 {
		t.Errorf("a commit, with room: %d, %v", r.Number, err)
	}
	if away, back := log.count("takes no writes"), log.count("the store is there again"); away != 1 || back != 1 {
		t.Errorf("logged:\n%s", log.text())
	}
}
