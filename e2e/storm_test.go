package e2e

import (
	"testing"
	"time"

	"gateway.internal/e2e/storm"
)

// TestStorm is a short one; make storm has it blow for ten minutes.
func TestStorm(t *testing.T) {
	set := storm.Settings{
		Binary: bin(t, "dataplane"), Folder: t.TempDir(), Duration: 12 * time.Second,
		Stuck: []string{"one", "two"}, Out: t.Output(),
	}
	if err := storm.Run(t.Context(), set); err != nil {
		t.Error(err)
	}
}
