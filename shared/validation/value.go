package validation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds are what a JSON text may have.
type Bounds struct {
	// Depth is how deep values may be nested in others.
	Depth int
	// Values is how many there may be, names of members not counted.
	Values int
}

const (
	maxNumber   = 64  // characters
	maxExponent = 308 // of a number, either way: more is no binary64, and long to compute with
)

// Decode reads a JSON text (RFC 8259) as schemas want it, numbers as json.Number. It refuses what readers understand
// differently, members of one name, and what is not UTF-8; and what is beyond bounds.
func Decode(text []byte, bounds Bounds) (any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("is not UTF-8")
	}
	d := decoder{json.NewDecoder(bytes.NewReader(text)), bounds.Values}
	d.UseNumber()
	v, err := d.value(bounds.Depth)
	if err != nil {
		return nil, reworded(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("has something behind its end")
	}
	return v, nil
}

type decoder struct {
	*json.Decoder
	left int // values
}

func reworded(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("is no JSON: %s, at byte %d", syntax.Error(), syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("is no JSON: it ends too early")
	}
	return err
}

func (d *decoder) value(depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if d.left--; d.left < 0 {
		return nil, errors.New("has too many values")
	}
	switch t := t.(type) {
	case json.Delim:
		if depth == 0 {
			return nil, errors.New("has values that are nested too deep")
		}
		if t == '{' {
			return d.object(depth - 1)
		}
		return d.array(depth - 1)
	case json.Number:
		return t, number(string(t))
	}
	return t, nil
}

func (d *decoder) object(depth int) (any, error) {
	o := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("has the member %q twice", cut(name, 40))
		}
		if o[name], err = d.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return o, err
}

func (d *decoder) array(depth int) (any, error) {
	a := []any{}
	for d.More() {
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := d.Token()
	return a, err
}

// number reports what is wrong with one.
func number(s string) error {
	if len(s) > maxNumber {
		return fmt.Errorf("has a number of more than %d characters", maxNumber)
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if e, err := strconv.Atoi(strings.TrimPrefix(s[i+1:], "+")); err != nil || e > maxExponent || e < -maxExponent {
			return fmt.Errorf("has a number with an exponent beyond %d", maxExponent)
		}
	}
	return nil
}
