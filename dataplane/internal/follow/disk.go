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

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/nodeid"
)

// foldAt is how many bytes of changes are kept at least before they are folded.
const foldAt = 1 << 20

// disk is the data folder. A change of the configuration costs an append to the last good snapshot and a sync; when the changes
// outweigh the snapshot they are folded into a new file, which takes the old one's place by a rename. A record that was torn by a
// crash is cut off. It is not safe for concurrent use.
type disk struct {
	dir     string
	lock    *os.File
	file    *os.File // open for appending; nil: the next write has to be a full one
	base    int64    // size of the magic and the full snapshot
	changes int64    // size of what follows it
}

// openDisk locks the folder: two processes would spoil each other's files. The lock goes with the process, however it ends. A lock that
// was handed over by another process is in force already.
func openDisk(dir string, handed *os.File) (*disk, error) {
	if handed != nil {
		return &disk{dir: dir, lock: handed}, nil
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
		d := &disk{dir: dir, lock: lock}
		_ = os.Remove(d.path() + ".new") // of a process that died while it wrote: it may have keys that are gone since
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
	if d.file != nil {
		_ = d.file.Close()
	}
	_ = d.lock.Close()
}

// forgetDamaged removes a file that was put aside, as far as there is one.
func (d *disk) forgetDamaged() { _ = os.Remove(d.path() + ".bad") }

func (d *disk) path() string { return filepath.Join(d.dir, "snapshot.pb") }

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
	f, err := d.replace("node-id", func(w io.Writer) error {
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

// replace puts a new file in the place of one in the folder, so that a crash leaves the one or the other. The file is returned when
// it is in place, which it may be in spite of an error: then a power cut may still bring the old one back.
func (d *disk) replace(name string, write func(io.Writer) error) (*os.File, error) {
	path := filepath.Join(d.dir, name)
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(temporary)
		return nil, err
	}
	dir, err := os.Open(d.dir)
	if err != nil {
		return f, err
	}
	defer dir.Close()
	return f, dir.Sync()
}

// load returns the records of the file, as far as they are whole, and how many bytes at its end were not and are cut off. A file
// that has no whole snapshot is put aside, and the error says so; no file is no error.
func (d *disk) load() (records []*streamv1.StreamResponse, cut int64, err error) {
	text, err := os.ReadFile(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("last good snapshot: %w", err)
	}
	records, sizes := decodeRecords(text)
	if len(records) == 0 || records[0].GetUpdate() == nil || records[0].GetUpdate().GetBaseRevision() != 0 {
		aside := d.path() + ".bad"
		if err := os.Rename(d.path(), aside); err != nil {
			return nil, 0, fmt.Errorf("last good snapshot: the file is damaged, and can't be put aside: %w", err)
		}
		return nil, 0, fmt.Errorf("last good snapshot: the file is damaged; it is now %s, and the node waits for a control plane", aside)
	}
	whole := int64(len(magic))
	for _, n := range sizes {
		whole += n
	}
	cut = int64(len(text)) - whole
	f, err := os.OpenFile(d.path(), os.O_RDWR, 0o600)
	if err != nil {
		return records, cut, nil //nolint:nilerr // it was read; the next write makes a new file
	}
	if f.Truncate(whole) != nil {
		_ = f.Close()
		return records, cut, nil //nolint:nilerr // as above
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		_ = f.Close()
		return records, cut, nil //nolint:nilerr // as above
	}
	d.file, d.base = f, int64(len(magic))+sizes[0]
	d.changes = whole - d.base
	return records, cut, nil
}

// save puts a change on disk. full returns everything, for a new file; a nil change asks for one.
func (d *disk) save(change *streamv1.StreamResponse, full func() []*streamv1.StreamResponse) error {
	var err error
	if d.file == nil || change == nil || d.changes > d.base+foldAt {
		err = d.fold(full())
	} else {
		err = d.add(change)
	}
	if err != nil {
		return fmt.Errorf("last good snapshot: %w", err)
	}
	return nil
}

func (d *disk) add(change *streamv1.StreamResponse) error {
	record, err := encodeRecord(change)
	if err != nil {
		return err
	}
	if _, err = d.file.Write(record); err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		// What is on disk now is not known: the next write starts over. Until then the torn part must not take the room that
		// it needs.
		_ = d.file.Truncate(d.base + d.changes)
		_ = d.file.Close()
		d.file = nil
		return err
	}
	d.changes += int64(len(record))
	return nil
}

// fold writes a new file and puts it in the old one's place.
func (d *disk) fold(records []*streamv1.StreamResponse) error {
	size := int64(len(magic))
	f, err := d.replace(filepath.Base(d.path()), func(w io.Writer) error {
		if _, err := io.WriteString(w, magic); err != nil {
			return err
		}
		for _, m := range records {
			b, err := encodeRecord(m)
			if err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
			size += int64(len(b))
		}
		return nil
	})
	if f == nil {
		return err
	}
	if d.file != nil {
		_ = d.file.Close()
	}
	d.file, d.base, d.changes = f, size, 0
	return err
}
