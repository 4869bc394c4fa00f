package accesslog

import (
	"bytes"
	"io"
	"os"
	"time"
)

// file is where lines go. A line that only a part of could be written is taken back out of a regular file, and goes on
// where it stopped elsewhere, so that no other line is ever joined to a part of one. One goroutine writes.
type file struct {
	out io.WriteCloser
	// regular is out where it is a regular file that was opened here, which parts of lines can be taken out of; nil: it is
	// none.
	regular *os.File
	// torn is the line of which the first at bytes are written; empty: there is none.
	torn []byte
	at   int
}

// open opens a path as Settings has it. A FIFO is opened for reading too, so that neither this nor a write depends on
// whether somebody reads.
func open(path string) (*file, error) {
	switch path {
	case "stdout":
		return &file{out: keepOpen{os.Stdout}}, nil
	case "stderr":
		return &file{out: keepOpen{os.Stderr}}, nil
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if at, err := os.Stat(path); err == nil && at.Mode()&os.ModeNamedPipe != 0 {
		flags = os.O_RDWR
	}
	out, err := os.OpenFile(path, flags, 0o640) //nolint:gosec // its group may read logs
	if err != nil {
		return nil, err
	}
	f := &file{out: out}
	if at, err := out.Stat(); err == nil && at.Mode().IsRegular() {
		f.regular = out
		if endsTorn(path, at.Size()) {
			f.torn = []byte{'\n'}
		}
	}
	return f, nil
}

// endsTorn reports whether a file ends within a line, as it does when its machine or a process went down while it was
// written.
func endsTorn(path string, size int64) bool {
	if size == 0 {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false // who writes may be forbidden to read
	}
	defer f.Close()
	last := make([]byte, 1)
	_, err = f.ReadAt(last, size-1)
	return err == nil && last[0] != '\n'
}

type keepOpen struct{ *os.File }

func (keepOpen) Close() error { return nil }

// write appends whole lines. lost is how many of them could not be written, and are not going to be.
func (f *file) write(lines []byte) (lost int, err error) {
	if len(f.torn) > 0 {
		n, err := f.out.Write(f.torn[f.at:])
		if f.at += n; f.at < len(f.torn) {
			return count(lines), err
		}
		f.torn, f.at = f.torn[:0], 0
	}
	n, err := f.out.Write(lines)
	if err == nil {
		return 0, nil
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	lost = count(lines[whole:])
	if part := n - whole; part > 0 && !f.takeBack(part) {
		f.torn, f.at = append(f.torn[:0], lines[whole:whole+bytes.IndexByte(lines[whole:], '\n')+1]...), part
		lost--
	}
	return lost, err
}

// takeBack takes the last bytes out of the file again. It reports whether that could be done, which is so when nobody
// has written after them.
func (f *file) takeBack(n int) bool {
	if f.regular == nil {
		return false
	}
	end, err := f.regular.Seek(0, io.SeekCurrent)
	if err != nil {
		return false
	}
	at, err := f.regular.Stat()
	return err == nil && at.Size() == end && f.regular.Truncate(end-int64(n)) == nil
}

// follow takes over from a file that is not written to any more: the line that is not whole there is written whole
// here.
func (f *file) follow(last *file) (lost int) {
	if len(last.torn) > 1 {
		lost, _ = f.write(last.torn)
	}
	last.torn = nil
	return lost
}

// hurry makes a write that is under way, and later ones, fail at once, where that is possible.
func (f *file) hurry() {
	if d, ok := f.out.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now())
	}
}

// close returns how many lines are lost that write has not counted.
func (f *file) close() (lost int, err error) {
	if len(f.torn) > 1 {
		lost = 1
	}
	return lost, f.out.Close()
}

// count returns how many lines there are.
func count(lines []byte) int { return bytes.Count(lines, []byte{'\n'}) }
