package follow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"gateway.internal/dataplane/internal/datafile"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/nodeid"
)

// disk is the data folder. It is not safe for concurrent use.
type disk struct {
	dir  string
	lock *os.File
	// snapshot has the configuration and the discovered endpoints.
	snapshot journal
	// consumers has what is apart from these: neither is written anew because of the other.
	consumers journal
}

func newDisk(dir string, lock *os.File, keys *keyring) *disk {
	snapshot := func(m *streamv1.StreamResponse) bool {
		return m.GetUpdate() != nil && m.GetUpdate().GetBaseRevision() == 0
	}
	consumers := func(m *streamv1.StreamResponse) bool { return m.GetSet() != nil && len(m.GetSet().GetBaseHash()) == 0 }
	return &disk{dir: dir, lock: lock,
		snapshot: journal{dir: dir, name: "snapshot.pb", what: "last good snapshot", whole: snapshot,
			keys: keys},
		consumers: journal{dir: dir, name: "consumers.pb", what: "last good consumers", whole: consumers,
			keys: keys},
	}
}

// openDisk locks the folder: two processes would spoil each other's files. The lock goes with the process, however it
// ends. A lock that was handed over by another process is in force already.
func openDisk(dir string, handed *os.File, keys *keyring) (*disk, error) {
	if handed != nil {
		return newDisk(dir, handed, keys), nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		d := newDisk(dir, lock, keys)
		for _, j := range []*journal{&d.snapshot, &d.consumers} {
			_ = os.Remove(j.path() + ".new") // of a process that died while it wrote: it may have keys that are gone since
		}
		return d, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fmt.Errorf("data folder %s: another node uses it; give each node its own --data-dir", dir)
	default:
		err = fmt.Errorf("data folder %s: lock: %w", dir, err)
	}
	_ = lock.Close()
	return nil, err
}

func (d *disk) close() {
	for _, j := range []*journal{&d.snapshot, &d.consumers} {
		if j.file != nil {
			_ = j.file.Close()
		}
	}
	_ = d.lock.Close()
}

// nodeID returns the id that is kept in the folder, making one the first time.
func (d *disk) nodeID() (string, error) {
	path := filepath.Join(d.dir, "node-id")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("node id: %w", err)
	}
	if id := string(bytes.TrimSpace(text)); id != "" {
		if err := nodeid.Check(id); err != nil {
			return "", fmt.Errorf("node id in %s: %w", path, err)
		}
		return id, nil
	}
	id := newID()
	f, err := datafile.Replace(d.dir, "node-id", func(w io.Writer) error {
		_, err := io.WriteString(w, id+"\n")
		return err
	})
	if f != nil {
		_ = f.Close()
	}
	if err != nil {
		return "", fmt.Errorf("node id: %w", err)
	}
	return id, nil
}
