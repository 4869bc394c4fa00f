package http1

import (
	"testing"

	"gateway.internal/shared/fault"
)

// TestReasons: whatever the gateway answers by itself has a reason phrase.
func TestReasons(t *testing.T) {
	for _, code := range fault.Codes() {
		if status := code.HTTP(); reasonOf(status) == "" && code != fault.ClientClosed {
			t.Errorf("%d has none", status)
		}
	}
	for status, want := range map[int]string{413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content",
		429: "Too Many Requests", 421: "Misdirected Request", 200: "OK", 599: ""} {
		if got := reasonOf(status); got != want {
			t.Errorf("%d: %q, want %q", status, got, want)
		}
	}
}
