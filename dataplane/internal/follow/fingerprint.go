package follow

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"syscall"

	"gateway.internal/shared/config/file"
)

// fingerprint tells contents of a file or folder apart without reading them: by name, file, size and time of change.
// Links count as what they lead to, so that it is another one when they are swapped, as those of a mounted ConfigMap
// are. also are files beside it.
func fingerprint(path string, also []string) [32]byte {
	h := sha256.New()
	files, err := file.Files(path)
	if err != nil {
		fmt.Fprintf(h, "%q\n", err)
	}
	for _, p := range slices.Concat(files, also) {
		info, err := os.Stat(p)
		if err != nil {
			fmt.Fprintf(h, "%q %q\n", p, err)
			continue
		}
		fmt.Fprintf(h, "%q ", p)
		numbers := []uint64{uint64(info.Size()), uint64(info.ModTime().UnixNano()), 0}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			numbers[2] = st.Ino
		}
		_ = binary.Write(h, binary.BigEndian, numbers)
	}
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}
