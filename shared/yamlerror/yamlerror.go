// Package yamlerror says where a text that is no YAML is wrong, and what of. The library that reads it names the line
// before in many cases, and no column; its successor, which has the same grammar, knows the place, and is asked only
// once there is an error.
package yamlerror

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Error is what is wrong with a text.
type Error struct {
	// Line and Column count from 1, in characters.
	Line, Column int
	// Message says what is wrong, in words that follow "is no YAML: ".
	Message string
}

// Error implements error: "line 3, column 5: is no YAML: ...".
func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: is no YAML: %s", e.Line, e.Column, e.Message)
}

// Of says what is wrong with a text that go.yaml.in/yaml/v3 refused with err.
func Of(text []byte, err error) *Error {
	if e := unreadable(text); e != nil {
		return e
	}
	wrong := refusal(text)
	if wrong == nil {
		return plain(err)
	}
	if strings.Contains(wrong.Message, "expected node content") {
		// Where the text ends within a list or a mapping, the library says only that something is missing; with something
		// there it says what is not closed.
		if unclosed := refusal(append(slices.Clip(text), "\n x"...)); unclosed != nil &&
			strings.Contains(unclosed.ContextMsg, "flow") {
			wrong = unclosed
		}
	}
	return marked(text, wrong)
}

// refusal returns why a text is refused, with its place; nil where it is taken, or the place is not known.
func refusal(text []byte) *yaml.LoadError {
	var all []yaml.Node
	var wrong *yaml.LoadError
	if errors.As(yaml.Load(text, &all, yaml.WithAllDocuments()), &wrong) && wrong.Mark.Line > 0 {
		return wrong
	}
	return nil
}

// unreadable finds what no YAML has anywhere (YAML 1.2 section 5.1): control characters, and bytes that are no UTF-8.
func unreadable(text []byte) *Error {
	line, column := 1, 1
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1 && text[0] != 0xfe && text[0] != 0xff: // those may begin UTF-16
			return &Error{line, column, fmt.Sprintf("the byte 0x%02x is no UTF-8", text[0])}
		case r == utf8.RuneError && n == 1:
			return nil
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f:
			return &Error{line, column,
				fmt.Sprintf("the control character %U is not allowed; in double quotes it can be written as \"\\x%02x\"", r, r)}
		case r == '\n':
			line, column = line+1, 0
		}
		text = text[n:]
		column++
	}
	return nil
}

// marked takes the place that is at fault: where a thing ends is known only too late for what has no end.
func marked(text []byte, e *yaml.LoadError) *Error {
	at, from := e.Mark, e.ContextMark
	said := &Error{at.Line, max(at.Column, 1), e.Message}
	opened := fmt.Sprintf("at line %d, column %d", from.Line, from.Column)
	isEnd := at.Line > bytes.Count(bytes.TrimRight(text, " \n"), []byte("\n"))+1
	switch m := e.Message; {
	case from.Line == 0:
	case strings.Contains(e.ContextMsg, "quoted scalar") && strings.Contains(m, "unexpected end of stream"):
		return &Error{from.Line, from.Column, "the quote that is opened here is never closed"}
	case strings.Contains(e.ContextMsg, "simple key") && strings.Contains(m, "expected ':'"):
		return &Error{from.Line, from.Column,
			`a ":" is missing after this, or it is indented less than the text that it belongs to`}
	case strings.Contains(e.ContextMsg, "flow sequence") && isEnd:
		return &Error{from.Line, from.Column, "the list that is opened here is never closed"}
	case strings.Contains(e.ContextMsg, "flow mapping") && isEnd:
		return &Error{from.Line, from.Column, "the mapping that is opened here is never closed"}
	case strings.Contains(e.ContextMsg, "flow sequence"):
		said.Message = `"," or "]" is missing before this, in the list that is opened ` + opened
	case strings.Contains(e.ContextMsg, "flow mapping"):
		said.Message = `"," or "}" is missing before this, in the mapping that is opened ` + opened
	case strings.Contains(e.ContextMsg, "block collection"):
		said.Message = `this belongs to nothing: the list that begins ` + opened + ` goes on with "- " below its first "-"`
	case strings.Contains(e.ContextMsg, "block mapping"):
		said.Message = `this belongs to nothing: the mapping that begins ` + opened + ` goes on with a key below its ` +
			`first one`
	}
	switch m := said.Message; {
	case strings.Contains(m, "mapping values are not allowed"):
		if e := withoutColon(text, at.Line); e != nil {
			return e
		}
		said.Message = `a mapping can't begin here: the line is indented wrongly, or a text with ": " in it has no quotes`
	case strings.Contains(m, "tab character that violates indentation"), strings.Contains(m, "cannot start any token") &&
		at.Column == 1 && beginsWithTab(text, at.Line):
		said.Message = "lines are indented with spaces, not with tabs"
	case strings.Contains(m, "cannot start any token"):
		said.Message = "no text begins with this character, unless in quotes"
	case strings.Contains(m, "expected <document start>"):
		said.Message = `this belongs to nothing: the document ends before it, and another one begins with "---"`
	case strings.HasPrefix(m, "unknown anchor"):
		said.Message = m + `: a text that begins with "*" needs quotes, or it is an alias`
	}
	return said
}

// withoutColon finds the first line of a mapping in a list that has no colon, above a line with one too many: without
// it the lines below go on with its text. It returns nil where that is not so.
func withoutColon(text []byte, line int) *Error {
	lines := bytes.Split(text, []byte("\n"))
	if line > len(lines) {
		return nil
	}
	indent := func(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }
	column := indent(lines[line-1])
	for n := line - 1; n > 0; n-- {
		at, first := indent(lines[n-1]), false
		for bytes.HasPrefix(lines[n-1][at:], []byte("- ")) {
			first = true
			at += 2 + indent(lines[n-1][at+2:])
		}
		content := bytes.TrimSpace(lines[n-1][at:])
		switch {
		case at != column || len(content) == 0 || bytes.ContainsAny(content, ":#\"'"):
			return nil
		case first:
			return &Error{n, at + 1, `a ":" is missing in this line: the mapping that it begins goes on below it`}
		}
	}
	return nil
}

func beginsWithTab(text []byte, line int) bool {
	for range line - 1 {
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return bytes.HasPrefix(text, []byte("\t"))
}

// plain takes the line out of what the library said.
func plain(err error) *Error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if n, message, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(n); err == nil {
				return &Error{line, 1, message}
			}
		}
	}
	return &Error{1, 1, text}
}
