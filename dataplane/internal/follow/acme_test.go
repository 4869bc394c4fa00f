package follow

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesRefuseACME(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, "certificates:\n  - name: a\n    hosts: [a.example]\n    acme: {}\n")
	log := &logged{}
	f := &Files{Path: path, Log: log.logger(), To: &nodeDouble{}}
	if err := f.Load(); err == nil || !strings.Contains(err.Error(), "a.yaml:4:11") || !strings.Contains(err.Error(), "needs a control plane") {
		t.Errorf("got %v", err)
	}
}
