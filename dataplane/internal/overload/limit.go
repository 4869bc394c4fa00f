package overload

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// MemoryLimit returns how many bytes the process may have: what GOMEMLIMIT says, or else the memory of its control
// group but for a tenth, which it tells the collector of garbage as well; 0: neither says anything. It is called once,
// at the start.
func MemoryLimit() int64 {
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		return n
	}
	n := groupLimit("/proc/self/cgroup", "/sys/fs/cgroup")
	if n > 0 {
		n -= n / 10
		debug.SetMemoryLimit(n)
	}
	return n
}

// groupLimit reads the least limit of the control group that a file in /proc names, and of those above it; 0: none.
func groupLimit(proc, mount string) int64 {
	text, err := os.ReadFile(proc)
	if err != nil {
		return 0
	}
	least := int64(0)
	read := func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			return
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && n > 0 && n < 1<<50 && (least == 0 || n < least) { // version 1 has a huge number for none
			least = n
		}
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		folder, file := mount, "memory.max"
		switch {
		case parts[0] == "0" && parts[1] == "":
		case parts[1] == "memory":
			folder, file = filepath.Join(mount, "memory"), "memory.limit_in_bytes"
		default:
			continue
		}
		for group := filepath.Clean("/" + parts[2]); ; group = filepath.Dir(group) {
			read(filepath.Join(folder, group, file))
			if group == "/" {
				break
			}
		}
	}
	return least
}
