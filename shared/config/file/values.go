package file

import (
	"bytes"
	"fmt"
)

// maxSigns bounds how many signs that may begin a value all files that are read together have. The reader makes a node
// of some 190 bytes of every value before anything is known of it, so that 64 MiB of "[],[]," took 4.2 GB.
const maxSigns = 4_000_000

// values adds up the signs of files before any of them is read as YAML.
type values struct{ signs int }

// check reports that all files so far have too many signs.
func (v *values) check(path string, text []byte, errs *Errors) bool {
	n := signs(text)
	if v.signs += n; v.signs <= maxSigns {
		return true
	}
	errs.add(path, 0, 0, fmt.Sprintf("has too many values: %d signs that may begin one (of [ { , : - ? and ends of lines), "+
		"with which all files that are read together have %d, and %d is the limit; apply it in several parts, or as JSON "+
		"over REST", n, v.signs, maxSigns))
	return false
}

// signs counts what may begin a value, wherever it stands, also in texts: it can't be deceived by what the reader
// understands otherwise, and needs no reader of its own. A document has at most three values for each of them, and
// three more: a mapping, a key and no value.
func signs(text []byte) int {
	n := bytes.Count(text, []byte("\r")) - bytes.Count(text, []byte("\r\n"))
	for _, sign := range []string{"[", "{", ",", ":", "\n", "- ", "-\t", "? ", "?\t"} {
		n += bytes.Count(text, []byte(sign))
	}
	return n
}
