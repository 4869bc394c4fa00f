package terminal

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTexts(t *testing.T) {
	for _, c := range []struct{ name, text, line, lines string }{
		{"plain", `a \d "b" größe 日本 👩‍🔧`, `a \d "b" größe 日本 👩‍🔧`,
			`a \d "b" größe 日本 👩‍🔧`},
		{"empty", "", "", ""},
		{"escape sequences", "\x1b[2J\x1b]0;x\a", `\x1b[2J\x1b]0;x\x07`, `\x1b[2J\x1b]0;x\x07`},
		{"a sequence of one character", "a\u009b1Ab", `a\u009b1Ab`, `a\u009b1Ab`},
		{"line ends", "a\nb\r\nc", `a\nb\r\nc`, "a\nb\\r\nc"},
		{"separators of Unicode", "a\u2028b\u2029c\u0085d", `a\u2028b\u2029c\u0085d`, `a\u2028b\u2029c\u0085d`},
		{"tabs", "a\tb", `a\tb`, "a\tb"},
		{"backspaces", "root\b\b\b\bann", `root\x08\x08\x08\x08ann`, `root\x08\x08\x08\x08ann`},
		{"marks of direction", "a\u202eb\u2066c\u200fd", `a\u202eb\u2066c\u200fd`, `a\u202eb\u2066c\u200fd`},
		{"no UTF-8", "a\xffb\xc2", `a\xffb\xc2`, `a\xffb\xc2`},
		{"the character that stands for no UTF-8", "a\ufffdb", "a\ufffdb", "a\ufffdb"},
		{"NUL and DEL", "a\x00b\x7f", `a\x00b\x7f`, `a\x00b\x7f`},
	} {
		if got := Line(c.text); got != c.line {
			t.Errorf("%s: line %q, want %q", c.name, got, c.line)
		}
		if got := Lines(c.text); got != c.lines {
			t.Errorf("%s: lines %q, want %q", c.name, got, c.lines)
		}
	}
}

func FuzzTexts(f *testing.F) {
	f.Add("a\x1b[31mb\n\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Line(s); !utf8.ValidString(got) || strings.ContainsFunc(got, Obeys) {
			t.Errorf("%q became %q", s, got)
		}
		text, err := json.MarshalIndent(map[string]string{s: s}, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		var before, after map[string]string
		safe := JSON(text)
		if err := json.Unmarshal(text, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(safe, &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("%s became %s, %v", text, safe, err)
		}
		if strings.ContainsFunc(string(safe), func(r rune) bool { return Obeys(r) && r != '\n' }) {
			t.Errorf("%q is not safe", safe)
		}
	})
}
