package health

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"gateway.internal/shared/config"
)

// match is what an answer has to have.
type match struct {
	text   string
	regexp *regexp.Regexp // nil: text
}

// matchOf returns what a check looks for; nil: nothing.
func matchOf(c config.HealthCheck) *match {
	switch {
	case c.Regex != "":
		return &match{text: c.Regex, regexp: regexp.MustCompile(c.Regex)} // it was validated
	case c.Contains != "":
		return &match{text: c.Contains}
	}
	return nil
}

// in reports whether an answer has it.
func (m *match) in(answer []byte) bool {
	if m.regexp != nil {
		return m.regexp.Match(answer)
	}
	return bytes.Contains(answer, []byte(m.text))
}

// missing is the error of an answer that does not have it.
func (m *match) missing(read int) error {
	what := "does not have the text"
	if m.regexp != nil {
		what = "does not match"
	}
	return fmt.Errorf("the answer %s %q in its first %d bytes", what, m.text, read)
}

// until reads until the answer has it, or there is no more of it that is looked at.
func (m *match) until(r io.Reader) error {
	var answer []byte
	part := make([]byte, 4<<10)
	for len(answer) < maxBodyBytes {
		n, err := r.Read(part)
		answer = append(answer, part[:min(n, maxBodyBytes-len(answer))]...)
		switch {
		case n > 0 && m.in(answer):
			return nil
		case errors.Is(err, io.EOF):
			return m.missing(len(answer))
		case err != nil:
			return err
		}
	}
	return m.missing(len(answer))
}
