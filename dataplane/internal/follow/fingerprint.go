package follow

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// fingerprint tells contents of a file or folder apart without reading them: by name, file, size and time of change. Files that are
// links, as those of a mounted ConfigMap, count as what they lead to.
func fingerprint(path string) [32]byte {
	h := sha256.New()
	one := func(p string) {
		info, err := os.Stat(p)
		if err != nil {
			fmt.Fprintf(h, "%q %q\n", p, err)
			return
		}
		if info.IsDir() {
			return
		}
		fmt.Fprintf(h, "%q ", p)
		numbers := []uint64{uint64(info.Size()), uint64(info.ModTime().UnixNano()), 0}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			numbers[2] = st.Ino
		}
		_ = binary.Write(h, binary.BigEndian, numbers)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		one(path)
	} else {
		_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				fmt.Fprintf(h, "%q %q\n", p, err)
			case !d.IsDir():
				one(p)
			case p != path && d.Name()[0] == '.': // as file.Load
				return filepath.SkipDir
			}
			return nil
		})
	}
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}
