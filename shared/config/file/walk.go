package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MaxFiles is the most files that are read of one folder, with all below it.
const MaxFiles = 100_000

// Files returns what Load reads of a path: the path itself where it is a file, and of a folder all *.yaml, *.yml and
// *.json in it and below, by name. Links are followed, to files and to folders, as a mounted ConfigMap has them; what
// several lead to is returned once, under the first name. Folders whose names begin with a dot are left out, links to
// them by such a name too. A link that leads nowhere is an error, since what it stood for would be missing, and so is a
// FIFO, a socket or a device in a folder.
func Files(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	w := walker{seen: map[string][]fs.FileInfo{}}
	if err := w.folder(path, info); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(w.files) == 0 {
		return nil, fmt.Errorf("read configuration: the folder %s has no .yaml, .yml or .json file", path)
	}
	slices.Sort(w.files)
	return w.files, nil
}

type walker struct {
	files []string
	seen  map[string][]fs.FileInfo // by what tells most files apart
}

// first reports whether a file or folder was not met under another name.
func (w *walker) first(info fs.FileInfo) bool {
	key := fmt.Sprint(info.Size(), info.ModTime().UnixNano(), info.IsDir())
	for _, other := range w.seen[key] {
		if os.SameFile(info, other) {
			return false
		}
	}
	w.seen[key] = append(w.seen[key], info)
	return true
}

func (w *walker) folder(path string, info fs.FileInfo) error {
	if !w.first(info) {
		return nil // perhaps one that this is in
	}
	entries, err := os.ReadDir(path) // by name
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.entry(filepath.Join(path, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(path string, e fs.DirEntry) error {
	hidden := strings.HasPrefix(e.Name(), ".")
	isLink := e.Type()&fs.ModeSymlink != 0
	if e.IsDir() && hidden {
		return nil
	}
	isConfiguration := false
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		isConfiguration = true
	}
	if !isConfiguration && !isLink && !e.IsDir() {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case err != nil && isLink && hidden: // such as an editor's lock
		return nil
	case err != nil && isLink && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is a link that leads nowhere", path)
	case err != nil:
		return err
	case info.IsDir() && hidden:
		return nil
	case info.IsDir():
		return w.folder(path, info)
	case isConfiguration && !info.Mode().IsRegular(): // a FIFO would be waited for, and a device may have no end
		return fmt.Errorf("%s is no file that can be read as a whole, but a FIFO, a socket or a device (%s)", path, info.Mode())
	case isConfiguration && w.first(info):
		if len(w.files) == MaxFiles {
			return fmt.Errorf("%s: there are more than %d files", path, MaxFiles)
		}
		w.files = append(w.files, path)
	}
	return nil
}
