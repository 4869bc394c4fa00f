// Package file reads and writes the declarative form of a configuration: YAML or JSON with one list per kind, in
// several documents, files or folders at once. It checks form, not meaning, and knows for everything it read where it
// stood.
package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/yamlerror"
)

// MaxBytes is the largest file that is read.
const MaxBytes = 64 << 20

// Error is one thing that is wrong in a file.
type Error struct {
	// Path is the file's, "-" for standard input.
	Path string
	// Line and Column count from 1; 0 when the file as a whole is meant.
	Line, Column int
	// Message says what is wrong.
	Message string
}

// Error implements error: path:line:column: message.
func (e Error) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Column, e.Message)
}

// Errors is everything that is wrong in the files.
type Errors []Error

// Error implements error: one a line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// maxErrors is how many errors are gathered before reading stops.
const maxErrors = 100

func (es *Errors) add(path string, line, column int, message string) {
	if len(*es) < maxErrors {
		*es = append(*es, Error{path, line, column, message})
	}
}

// Document is what was read, and where.
type Document struct {
	// Configuration has the resources in the order of the files.
	Configuration *configv1.Configuration

	items   map[config.Kind][]item
	texts   map[string]*Source
	aliases aliases
	values  values

	resolver *Resolver
	unset    []Unset
}

type item struct {
	path string
	node *yaml.Node
}

// Load reads files, folders (see Files) and, for "-", stdin. The error is
// Errors when it is the content that is wrong.
func Load(paths []string, stdin io.Reader) (*Document, error) {
	return LoadWith(paths, stdin, &Resolver{})
}

// LoadWith is Load with a resolver of one's own, which knows afterwards what the files refer to.
func LoadWith(paths []string, stdin io.Reader, r *Resolver) (*Document, error) {
	doc := &Document{Configuration: &configv1.Configuration{}, items: map[config.Kind][]item{},
		texts: map[string]*Source{}, resolver: r}
	var errs Errors
	for _, path := range paths {
		files := []string{path}
		if path != "-" {
			var err error
			if files, err = Files(path); err != nil {
				return nil, err
			}
		}
		for _, f := range files {
			text, err := read(f, stdin)
			if err != nil {
				return nil, err
			}
			doc.parse(f, text, &errs)
		}
	}
	doc.checkNames(&errs)
	if len(errs) > 0 {
		return nil, errs
	}
	return doc, nil
}

func read(path string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		defer f.Close()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %s: %w", path, err)
	}
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("read configuration: %s: is larger than %d MiB", path, MaxBytes>>20)
	}
	return text, nil
}

func (doc *Document) parse(path string, text []byte, errs *Errors) {
	if !doc.values.check(path, text, errs) {
		return
	}
	source, known := NewSource(text), len(*errs)
	doc.texts[path] = source
	defer func() {
		for i := known; i < len(*errs); i++ {
			(*errs)[i].Message = source.Hide(doc.Hide((*errs)[i].Message))
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var root yaml.Node
		err := dec.Decode(&root)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			wrong := yamlerror.Of(text, err)
			errs.add(path, wrong.Line, wrong.Column, "is no YAML: "+wrong.Message)
			return
		}
		if root.Kind != yaml.DocumentNode || len(root.Content) == 0 || root.Content[0].Tag == "!!null" ||
			!doc.aliases.check(path, &root, errs) {
			continue
		}
		doc.document(path, root.Content[0], errs)
	}
}

func (doc *Document) document(path string, n *yaml.Node, errs *Errors) {
	d := &decoder{path: path, errs: errs, resolver: doc.resolver}
	if n.Kind != yaml.MappingNode {
		d.fail(n, "a document has to be a mapping with lists such as services and routes")
		return
	}
	m := doc.Configuration.ProtoReflect()
	fields := m.Descriptor().Fields()
	d.pairs(n, func(k, v *yaml.Node) {
		f := fields.ByName(protoreflect.Name(k.Value))
		if f == nil && strings.HasPrefix(k.Value, "x-") { // a place for anchors
			return
		}
		if f == nil {
			d.fail(k, "there is no kind %q%s", k.Value, suggestion(k.Value, fields))
			return
		}
		if v.Tag == "!!null" {
			return
		}
		if v.Kind != yaml.SequenceNode {
			d.fail(v, "%s has to be a list", k.Value)
			return
		}
		kind, err := config.ParseKind(k.Value)
		if err != nil {
			d.fail(k, "%s", err)
			return
		}
		list := m.Mutable(f).List()
		for _, node := range v.Content {
			node = resolve(node)
			m := list.AppendMutable().Message()
			d.message(node, m, kind.String(), 1)
			for _, kept := range d.setEnvironment(m) {
				kept.Location = fmt.Sprintf("%s[%d]", kind.Plural(), len(doc.items[kind]))
				doc.unset = append(doc.unset, kept)
			}
			doc.items[kind] = append(doc.items[kind], item{path, node})
		}
	})
}

// checkNames reports names that a kind has twice, with both places.
func (doc *Document) checkNames(errs *Errors) {
	for _, k := range config.Kinds() {
		first := map[string]int{}
		for i, m := range Resources(doc.Configuration, k) {
			name := m.GetName()
			if j, twice := first[name]; twice && name != "" {
				at, other := doc.items[k][i], doc.items[k][j]
				errs.add(at.path, at.node.Line, at.node.Column, fmt.Sprintf("%s %q is there twice; first at %s:%d", k, name, other.path, other.node.Line))
				continue
			}
			first[name] = i
		}
	}
}

// listOf returns the field of a configuration that has the resources of a kind.
func listOf(k config.Kind) protoreflect.FieldDescriptor {
	return (&configv1.Configuration{}).ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(k.Plural()))
}

// Resources returns the resources of one kind.
func Resources(c *configv1.Configuration, k config.Kind) []config.Message {
	list := c.ProtoReflect().Get(listOf(k)).List()
	all := make([]config.Message, list.Len())
	for i := range all {
		all[i] = list.Get(i).Message().Interface().(config.Message)
	}
	return all
}

// Edits returns the edits that put every resource of a configuration; locations are such as "routes[2]".
func Edits(c *configv1.Configuration) []config.Edit {
	var edits []config.Edit
	for _, k := range config.Kinds() {
		for i, m := range Resources(c, k) {
			edits = append(edits, config.Edit{Kind: k, Put: m, Version: m.GetVersion(), Location: fmt.Sprintf("%s[%d]", k.Plural(), i)})
		}
	}
	return edits
}

// Position returns where a location such as "routes[2]" with a field such as "hosts[0]" stands. The field may be empty;
// where it is not in the file, the position is that of the nearest thing around it. ok is false when the location is
// not of the document.
func (doc *Document) Position(location, field string) (path string, line, column int, ok bool) {
	plural, index, _ := strings.Cut(strings.TrimSuffix(location, "]"), "[")
	k, err := config.ParseKind(plural)
	i, convErr := strconv.Atoi(index)
	if err != nil || convErr != nil || i < 0 || i >= len(doc.items[k]) {
		return "", 0, 0, false
	}
	it := doc.items[k][i]
	n := it.node
	at := n
	for _, step := range strings.FieldsFunc(field, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		next := child(n, step)
		if next == nil {
			break
		}
		n, at = next, next
	}
	return it.path, at.Line, at.Column, true
}

func child(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if i, err := strconv.Atoi(step); err == nil && n.Kind == yaml.SequenceNode {
		if i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	if n.Kind == yaml.MappingNode {
		return member(n, step, 0)
	}
	return nil
}

// member returns a mapping's value of a key, its own or one that is merged into it.
func member(n *yaml.Node, key string, depth int) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if depth > maxDepth {
		return nil
	}
	fromFile := strings.HasSuffix(key, pemSuffix)
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if k := n.Content[i].Value; k == key || fromFile && k == strings.TrimSuffix(key, pemSuffix)+fileSuffix {
			return n.Content[i+1]
		}
	}
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if !isMerge(n.Content[i]) {
			continue
		}
		from := []*yaml.Node{n.Content[i+1]}
		if from[0].Kind == yaml.SequenceNode {
			from = from[0].Content
		}
		for _, m := range from {
			if v := member(m, key, depth+1); v != nil {
				return v
			}
		}
	}
	return nil
}

// Hide puts the text that the files have in the place of what they took from the environment, in a message.
func (doc *Document) Hide(message string) string { return doc.resolver.hide(message) }

// Unset returns the texts that were left as they are; see Resolver.KeepUnset.
func (doc *Document) Unset() []Unset { return doc.unset }

// Source returns the text of a file that was read; nil when it was not.
func (doc *Document) Source(path string) *Source { return doc.texts[path] }

func lineOf(text []byte, line int) string {
	for i := 1; i < line; i++ {
		j := bytes.IndexByte(text, '\n')
		if j < 0 {
			return ""
		}
		text = text[j+1:]
	}
	if j := bytes.IndexByte(text, '\n'); j >= 0 {
		text = text[:j]
	}
	return strings.TrimRight(string(text), "\r")
}
