package file

import (
	"errors"
	"fmt"
	"io"
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

	files  []string
	values []config.Taken
}

// Files returns the files that were referred to, whether they could be read or not: what was read changes when they do.
func (r *Resolver) Files() []string { return r.files }

// hide puts the text that a file has in the place of what was taken from the environment.
func (r *Resolver) hide(message string) string { return config.Hide(message, r.values) }

const refersToEnv = "${env:"

// reference is a variable of the environment, or with another "$" in front the text itself.
var reference = regexp.MustCompile(`(\$+)\{env:([^}]*)(\}?)`)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand puts variables of the environment into a text, and reports whether there are any. Of several "$" before
// {env: one is dropped, and what remains is no reference.
func (r *Resolver) expand(text string) (out string, isTaken bool, wrong error) {
	if !strings.Contains(text, refersToEnv) {
		return text, false, nil
	}
	lookup := r.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
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
			wrong = fmt.Errorf("the environment has no variable %s", m[2])
		}
		isTaken = true
		r.values = append(r.values, config.Taken{Value: value, Text: s})
		return value
	})
	if isTaken {
		r.values = append(r.values, config.Taken{Value: out, Text: text})
	}
	return out, isTaken, wrong
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

// setEnvironment says in a resource which of its texts are from the environment.
func (d *decoder) setEnvironment(m protoreflect.Message) {
	resource, ok := m.Interface().(config.Message)
	if len(d.environment) == 0 || !ok {
		return
	}
	into := m.Mutable(m.Descriptor().Fields().ByName("environment")).Map()
	config.EachText(resource, func(path, value string) string {
		if text, ok := d.environment[path]; ok {
			into.Set(protoreflect.ValueOfString(path).MapKey(), protoreflect.ValueOfString(text))
		}
		return value
	})
	d.environment = nil
}

// within decodes a part of what is decoded: ".field" or "[7]".
func (d *decoder) within(part string, decode func()) {
	outer := d.at
	d.at += part
	decode()
	d.at = outer
}

// text returns what a scalar says, and remembers where the environment says it.
func (d *decoder) text(n *yaml.Node) string {
	text, isTaken, err := d.resolver.expand(n.Value)
	if err != nil {
		d.fail(n, "%s", err)
	}
	if isTaken {
		if d.environment == nil {
			d.environment = map[string]string{}
		}
		d.environment[strings.TrimPrefix(d.at, ".")] = n.Value
	}
	return text
}
