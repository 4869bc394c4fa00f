package bearer

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for token, want := range map[string]string{
		"":                 "has 0 characters; at least 16 are required",
		"fifteen-letters":  "has 15 characters; at least 16 are required",
		"sixteen-letters-": "",
	} {
		got := ""
		if err := Check(token); err != nil {
			got = err.Error()
		}
		if got != want || token != "" && strings.Contains(got, token) {
			t.Errorf("%q: %q, want %q", token, got, want)
		}
	}
}
