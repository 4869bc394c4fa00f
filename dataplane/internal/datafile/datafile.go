// Package datafile puts files of the data folder in place so that a crash leaves the old one or the new one.
package datafile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts a new file in the place of one in the folder, readable by its user only, so that a crash leaves the one
// or the other. The file is returned when it is in place, which it may be in spite of an error: then a power cut may
// still bring the old one back.
func Replace(dir, name string, write func(io.Writer) error) (*os.File, error) {
	path := filepath.Join(dir, name)
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
	folder, err := os.Open(dir)
	if err != nil {
		return f, err
	}
	defer folder.Close()
	return f, folder.Sync()
}
