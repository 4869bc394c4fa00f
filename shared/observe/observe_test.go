package observe

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
)

func TestTerminalsObeyNoLogLine(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, err := Logger(&out, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("node refused", "node", "a\x1b[2K\r\nb\u202ec\u009b1A\u2028\x7f")
		unsafe := func(r rune) bool { return unicode.IsControl(r) && r != '\n' || r == '\u202e' || r == '\u2028' }
		if got := out.String(); strings.ContainsFunc(got, unsafe) || strings.Count(got, "\n") != 1 ||
			!strings.Contains(got, `\u202e`) {
			t.Errorf("%s: %q", format, got)
		}
	}
}
