package configtest

import (
	"testing"

	"gateway.internal/shared/config"
)

// Entry returns a message, which it takes over, as it is committed.
func Entry(t testing.TB, m config.Message) *config.Entry {
	t.Helper()
	e, err := config.NewEntry(m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
