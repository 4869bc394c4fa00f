package nodeid

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for id, fits := range map[string]bool{
		"edge-1": true, "größe": true, "日本": true, strings.Repeat("a", MaxBytes): true,
		"": false, strings.Repeat("a", MaxBytes+1): false, "a b": false, "a\tb": false, "a\nb": false,
		"a\x1b[2K": false, "a\u202eb": false, "a\u2028b": false,
		"a\u009bb": false, "a\xff": false, "a\u00a0b": false,
	} {
		err := Check(id)
		if (err == nil) != fits {
			t.Errorf("%q: %v", id, err)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("%q: the error has %d bytes", id, len(err.Error()))
		}
	}
}
