// Package terminal makes texts from elsewhere fit to be shown on a terminal. A terminal obeys what is in a text:
// escape sequences move the cursor and overwrite what is there, line ends begin a row that looks like any other, and
// marks of direction show a line in another order than it has. Every text that is not the program's own goes through
// Line or Lines before it is shown; data that other programs read is left as it is.
package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns a text that stays on its line and in its column of a table: control characters (line ends and tabs
// among them), separators of lines and paragraphs, marks of direction and bytes that are no UTF-8 are written as Go's
// escapes, such as \x1b or \u202e. All else is as it was.
func Line(s string) string { return escape(s, "") }

// Lines is Line for a text of several lines: line feeds and tabs stay.
func Lines(s string) string { return escape(s, "\n\t") }

func escape(s, keep string) string {
	obeyed := func(r rune) bool { return Obeys(r) && !strings.ContainsRune(keep, r) }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, obeyed) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !obeyed(r):
			b.WriteString(s[:n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// Obeys reports whether a terminal does something else with a character than showing it. There is no such character
// above U+FFFF.
func Obeys(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\ufeff' || unicode.Is(unicode.Bidi_Control, r)
}

// JSON returns JSON whose strings have escapes (RFC 8259 section 7) for what a terminal would obey. It stands for the
// same value: outside of strings JSON has no such character but white space, which stays.
func JSON(text []byte) []byte {
	if !strings.ContainsFunc(string(text), isHiddenInJSON) {
		return text
	}
	var b strings.Builder
	for _, r := range string(text) {
		if isHiddenInJSON(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return []byte(b.String())
}

// isHiddenInJSON reports whether JSON may have a character in a string as it is, and a terminal obeys it.
func isHiddenInJSON(r rune) bool { return r > ' ' && Obeys(r) }
