package file

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"gateway.internal/shared/config"
)

// MaxReferredBytes is the largest file that another one refers to, such as by key_file.
const MaxReferredBytes = 1 << 20

// Resolver finds what files refer to: variables of the environment (${env:NAME}) and other files (cert_file). Where
// that is done is where the files are read. The zero value is ready for use; it is not safe for concurrent use.
type Resolver struct {
	// LookupEnv returns a variable of the environment; nil: os.LookupEnv.
	LookupEnv func(name string) (string, bool)
	// KeepUnset leaves texts that name variables which are not set as they are, for a control plane that may have the
	// values; see Document.Unset. Without it, and where a text has to be known, they are errors.
	KeepUnset bool

	files  []string
	values []config.EnvironmentValue
}

// Files returns the files that were referred to, whether they could be read or not: what was read changes when they do.
func (r *Resolver) Files() []string { return r.files }

// hide puts the text that a file has in the place of what was taken from the environment.
func (r *Resolver) hide(message string) string { return config.Hide(message, r.values) }

const refersToEnv = "${env:"

// reference is a variable of the environment, or with another "$" in front the text itself.
var reference = regexp.MustCompile(`(\$+)\{env:([^}]*)(\}?)`)

// unsetError is a variable that the environment does not have.
type unsetError struct{ name string }

func (e *unsetError) Error() string { return "the environment has no variable " + e.name }

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand puts variables of the environment into a text, and reports whether there are any. Of several "$" before
// {env: one is dropped, and what remains is no reference. The error is *unsetError when that is all that is wrong.
func (r *Resolver) expand(text string) (out string, isTaken bool, wrong error) {
	if !strings.Contains(text, refersToEnv) {
		return text, false, nil
	}
	lookup := r.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	var unset *unsetError
	out = reference.ReplaceAllStringFunc(text, func(s string) string {
		m := reference.FindStringSubmatch(s)
		if len(m[1]) > 1 {
			return s[1:]
		}
		if m[3] == "" || !variableName.MatchString(m[2]) {
			wrong = fmt.Errorf("%q names no variable of the environment: it has to be like ${env:NAME}, and the text "+
				"${env: is written $${env: there", shorten(s))
			return s
		}
		value, ok := lookup(m[2])
		if !ok {
			if unset == nil {
				unset = &unsetError{m[2]}
			}
			return s
		}
		isTaken = true
		r.values = append(r.values, config.EnvironmentValue{Value: value, Text: s})
		return value
	})
	switch {
	case wrong != nil:
		return text, false, wrong
	case unset != nil:
		return text, false, unset
	case isTaken:
		r.values = append(r.values, config.EnvironmentValue{Value: out, Text: text})
	}
	return out, isTaken, nil
}

// protect is the opposite of expand for a text that has nothing to do with the environment.
func protect(text string) string {
	if !strings.Contains(text, refersToEnv) {
		return text
	}
	return strings.ReplaceAll(text, refersToEnv, "$"+refersToEnv)
}

// read returns the text of a file that the file "from" refers to, relative to the folder of that one.
func (r *Resolver) read(path, from string) (string, error) {
	if path == "" {
		return "", errors.New("names no file")
	}
	if !filepath.IsAbs(path) && from != "-" {
		path = filepath.Join(filepath.Dir(from), path)
	}
	if !slices.Contains(r.files, path) {
		r.files = append(r.files, path)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("can't be read: %w", err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no file that can be read as a whole (%s)", path, info.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("can't be read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxReferredBytes+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("can't be read: %w", err)
	case len(text) > MaxReferredBytes:
		return "", fmt.Errorf("%s is larger than %d MiB", path, MaxReferredBytes>>20)
	}
	return string(text), nil
}

// setEnvironment says in a resource which of its texts are from the environment, and returns those that were left as
// they are. One that has to be known is an error.
func (d *decoder) setEnvironment(m protoreflect.Message) (kept []Unset) {
	resource, ok := m.Interface().(config.Message)
	if len(d.environment) == 0 || !ok {
		return nil
	}
	into := m.Mutable(m.Descriptor().Fields().ByName("environment")).Map()
	config.EachText(resource, func(path, value string) string {
		if text, ok := d.environment[path]; ok {
			into.Set(protoreflect.ValueOfString(path).MapKey(), protoreflect.ValueOfString(text))
			if unset, ok := d.unset[path]; ok {
				kept = append(kept, Unset{Variable: unset.err.name, Field: path})
				delete(d.unset, path)
			}
		}
		return value
	})
	for _, path := range slices.Sorted(maps.Keys(d.unset)) {
		d.fail(d.unset[path].at, "%s", d.unset[path].err)
	}
	d.environment, d.unset = nil, nil
	slices.SortFunc(kept, func(a, b Unset) int { return strings.Compare(a.Field, b.Field) })
	return kept
}

// Unset is a text that was left as it is, since the environment lacks a variable that it names.
type Unset struct {
	// Variable is the first one that is lacking.
	Variable string
	// Location is such as "routes[2]", and Field such as "hosts[0]".
	Location, Field string
}

type unsetText struct {
	at  *yaml.Node
	err *unsetError
}

// within decodes a part of what is decoded: ".field" or "[7]".
func (d *decoder) within(part string, decode func()) {
	outer := d.at
	d.at += part
	decode()
	d.at = outer
}

// text returns what a scalar says, and remembers where the environment says it. ok is false where that is not known,
// which has been reported. mayKeep is for texts.
func (d *decoder) text(n *yaml.Node, mayKeep bool) (text string, ok bool) {
	text, isTaken, err := d.resolver.expand(n.Value)
	path := strings.TrimPrefix(d.at, ".")
	if unset, isUnset := errors.AsType[*unsetError](err); isUnset && mayKeep && d.resolver.KeepUnset {
		if d.unset == nil {
			d.unset = map[string]unsetText{}
		}
		d.unset[path] = unsetText{n, unset}
		isTaken = true
	} else if err != nil {
		d.fail(n, "%s", err)
		return "", false
	}
	if isTaken {
		if d.environment == nil {
			d.environment = map[string]string{}
		}
		d.environment[path] = n.Value
	}
	return text, true
}
