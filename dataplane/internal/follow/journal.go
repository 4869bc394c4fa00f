package follow

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"gateway.internal/dataplane/internal/datafile"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// foldAt is how many bytes of changes are kept at least before they are folded.
const foldAt = 1 << 20

// journal is a file that has something whole and then its changes. A change costs an append and a sync; when the
// changes outweigh the whole they are folded into a new file, which takes the old one's place by a rename. A record
// that was torn by a crash is cut off.
type journal struct {
	dir, name string
	// what names its content in errors.
	what string
	// whole reports whether a record is, or begins, something whole.
	whole func(*streamv1.StreamResponse) bool
	keys  *keyring
	// outdated says that the file is to be written anew: it was not encrypted, or not with the first key.
	outdated bool

	file    *os.File    // open for appending; nil: the next write has to be a full one
	cipher  *fileCipher // the file's
	records uint64      // that the file has
	base    int64       // size of the head and what is whole
	changes int64       // size of what follows it
}

func (j *journal) path() string { return filepath.Join(j.dir, j.name) }

// forgetDamaged removes a file that was put aside, as far as there is one.
func (j *journal) forgetDamaged() { _ = os.Remove(j.path() + ".bad") }

// load returns the records of the file, as far as they are whole, and how many bytes at its end were not and are cut
// off. A file that begins with nothing whole is put aside, and the error says so; one of another key stays where it is
// until something else is written. No file is no error.
func (j *journal) load() (records []*streamv1.StreamResponse, cut int64, err error) {
	cut, err = j.each(func(m *streamv1.StreamResponse) { records = append(records, m) })
	return records, cut, err
}

// each is load one by one.
func (j *journal) each(take func(*streamv1.StreamResponse)) (cut int64, err error) {
	text, err := os.ReadFile(j.path())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", j.what, err)
	}
	records, whole, err := j.open(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %s can't be read, and the node waits for a control plane: %w", j.what, j.path(), err)
	}
	base, count := int64(0), uint64(0)
	for m, size := range records {
		if count == 0 && !j.whole(m) {
			break
		}
		count++
		whole += size
		if base == 0 && isLast(m) {
			base = whole
		}
		take(m)
	}
	if count == 0 {
		aside := j.path() + ".bad"
		if err := os.Rename(j.path(), aside); err != nil {
			return 0, fmt.Errorf("%s: the file is damaged, and can't be put aside: %w", j.what, err)
		}
		return 0, fmt.Errorf("%s: the file is damaged; it is now %s, and the node waits for a control plane", j.what, aside)
	}
	cut = int64(len(text)) - whole
	if j.outdated {
		return cut, nil // the next write makes a new file
	}
	f, err := os.OpenFile(j.path(), os.O_RDWR, 0o600)
	if err != nil {
		return cut, nil //nolint:nilerr // it was read; the next write makes a new file
	}
	if f.Truncate(whole) != nil {
		_ = f.Close()
		return cut, nil //nolint:nilerr // as above
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		_ = f.Close()
		return cut, nil //nolint:nilerr // as above
	}
	j.file, j.records, j.base = f, count, base
	j.changes = whole - j.base
	return cut, nil
}

// open returns the records of a file's text, and the size of its head.
func (j *journal) open(text []byte) (records iter.Seq2[*streamv1.StreamResponse, int64], head int64, err error) {
	id := keyNamed(text)
	if id == "" {
		j.outdated = true
		return decodePlain(text), int64(len(plainMagic)), nil
	}
	key, first, err := j.keys.named(id)
	if err != nil {
		return nil, 0, err
	}
	j.outdated = !first
	if j.cipher, err = fileCipherOf(text[:headBytes], key, j.name); err != nil {
		return nil, 0, err
	}
	return j.cipher.decode(text), int64(headBytes), nil
}

// isLast reports whether a record is the last chunk of what it is a part of.
func isLast(m *streamv1.StreamResponse) bool { return m.GetSet().GetChunk() >= m.GetSet().GetChunks() }

// save puts changes on disk. full returns everything, for a new file; no changes ask for one.
func (j *journal) save(changes []*streamv1.StreamResponse, full func() iter.Seq[*streamv1.StreamResponse]) error {
	var err error
	if j.file == nil || len(changes) == 0 || j.changes > j.base+foldAt {
		err = j.fold(full())
	} else {
		for i := 0; i < len(changes) && err == nil; i++ {
			err = j.add(changes[i])
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", j.what, err)
	}
	return nil
}

func (j *journal) add(change *streamv1.StreamResponse) error {
	record, err := j.cipher.encode(j.records, change)
	if err != nil {
		return err
	}
	if _, err = j.file.Write(record); err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// What is on disk now is not known: the next write starts over. Until then the torn part must not take the room that
		// it needs.
		_ = j.file.Truncate(j.base + j.changes)
		_ = j.file.Close()
		j.file = nil
		return err
	}
	j.records++
	j.changes += int64(len(record))
	return nil
}

// fold writes a new file and puts it in the old one's place.
func (j *journal) fold(records iter.Seq[*streamv1.StreamResponse]) error {
	keys, err := j.keys.all()
	if err != nil {
		return err
	}
	c, err := newFileCipher(keys[0], j.name)
	if err != nil {
		return err
	}
	size, count := int64(headBytes), uint64(0)
	f, err := datafile.Replace(j.dir, j.name, func(w io.Writer) error {
		if _, err := w.Write(c.head); err != nil {
			return err
		}
		for m := range records {
			b, err := c.encode(count, m)
			if err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
			size += int64(len(b))
			count++
		}
		return nil
	})
	if f == nil {
		return err
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.cipher, j.records, j.base, j.changes = f, c, count, size, 0
	j.outdated = false
	return err
}
