package follow

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// The last good snapshot is one file: a magic, a full snapshot, and then what has changed since, each as a record of length,
// SHA-256 and message. A change costs an append and a sync; when the changes outweigh the snapshot they are folded into a new
// file, which takes the old one's place by a rename. A record that was torn by a crash is cut off.

const (
	magic      = "GWSNAP01"
	recordHead = 4 + sha256.Size
	// maxRecord is the largest record that is read.
	maxRecord = 1 << 30
	// foldAt is how many bytes of changes are kept at least before they are folded.
	foldAt = 1 << 20
)

// disk is the data folder. It is not safe for concurrent use.
type disk struct {
	dir     string
	lock    *os.File
	file    *os.File // open for appending; nil: the next write has to be a full one
	base    int64    // size of the full snapshot
	changes int64    // size of what follows it
}

// openDisk locks the folder: two processes would spoil each other's files.
func openDisk(dir string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("data folder %s: another node uses it; give each node its own --data-dir", dir)
	}
	return &disk{dir: dir, lock: lock}, nil
}

func (d *disk) close() {
	if d.file != nil {
		_ = d.file.Close()
	}
	_ = d.lock.Close()
}

func (d *disk) path() string { return filepath.Join(d.dir, "snapshot.pb") }

// nodeID returns the id that is kept in the folder, making one the first time.
func (d *disk) nodeID() (string, error) {
	path := filepath.Join(d.dir, "node-id")
	text, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(text)) > 0 {
		return string(bytes.TrimSpace(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("node id: %w", err)
	}
	id := newID()
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("node id: %w", err)
	}
	return id, nil
}

// load returns the records of the file, as far as they are whole. A file that has no whole snapshot is put aside, and the error
// says so; no file is no error.
func (d *disk) load() ([]*streamv1.StreamResponse, error) {
	text, err := os.ReadFile(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("last good snapshot: %w", err)
	}
	records, sizes := decodeRecords(text)
	if len(records) == 0 || records[0].GetUpdate() == nil || records[0].GetUpdate().GetBaseRevision() != 0 {
		aside := d.path() + ".bad"
		_ = os.Rename(d.path(), aside)
		return nil, fmt.Errorf("last good snapshot: the file is damaged; it is now %s, and the node waits for a control plane", aside)
	}
	whole := int64(len(magic))
	for _, n := range sizes {
		whole += n
	}
	f, err := os.OpenFile(d.path(), os.O_RDWR, 0o600)
	if err != nil {
		return records, nil //nolint:nilerr // it was read; the next write makes a new file
	}
	if f.Truncate(whole) != nil {
		_ = f.Close()
		return records, nil
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		_ = f.Close()
		return records, nil //nolint:nilerr // as above
	}
	d.file, d.base, d.changes = f, int64(len(magic))+sizes[0], whole-int64(len(magic))-sizes[0]
	return records, nil
}

// decodeRecords reads whole records from the start of a file's text.
func decodeRecords(text []byte) (records []*streamv1.StreamResponse, sizes []int64) {
	rest, ok := bytes.CutPrefix(text, []byte(magic))
	if !ok {
		return nil, nil
	}
	for len(rest) >= recordHead {
		n := int64(binary.BigEndian.Uint32(rest))
		if n > maxRecord || int64(len(rest)-recordHead) < n {
			break
		}
		body := rest[recordHead : recordHead+n]
		if sum := sha256.Sum256(body); !bytes.Equal(sum[:], rest[4:recordHead]) {
			break
		}
		m := &streamv1.StreamResponse{}
		if proto.Unmarshal(body, m) != nil {
			break
		}
		records = append(records, m)
		sizes = append(sizes, recordHead+n)
		rest = rest[recordHead+n:]
	}
	return records, sizes
}

func encodeRecord(m *streamv1.StreamResponse) ([]byte, error) {
	b := make([]byte, recordHead, recordHead+proto.Size(m))
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return nil, err
	}
	body := b[recordHead:]
	binary.BigEndian.PutUint32(b, uint32(len(body)))
	sum := sha256.Sum256(body)
	copy(b[4:], sum[:])
	return b, nil
}

// save puts a change on disk. full returns everything, for a new file.
func (d *disk) save(change *streamv1.StreamResponse, full func() []*streamv1.StreamResponse) error {
	if d.file == nil || change == nil || d.changes > d.base+foldAt {
		return d.fold(full())
	}
	record, err := encodeRecord(change)
	if err != nil {
		return fmt.Errorf("last good snapshot: %w", err)
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
		return fmt.Errorf("last good snapshot: %w", err)
	}
	d.changes += int64(len(record))
	return nil
}

// fold writes a new file and puts it in the old one's place.
func (d *disk) fold(records []*streamv1.StreamResponse) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("last good snapshot: %w", err)
		}
	}()
	temporary := d.path() + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	base := int64(len(magic))
	_, err = f.WriteString(magic)
	for _, m := range records {
		var b []byte
		if err == nil {
			if b, err = encodeRecord(m); err == nil {
				_, err = f.Write(b)
				base += int64(len(b))
			}
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temporary, d.path())
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(temporary)
		return err
	}
	if dir, openErr := os.Open(d.dir); openErr == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
	if d.file != nil {
		_ = d.file.Close()
	}
	d.file, d.base, d.changes = f, base, 0
	return nil
}
