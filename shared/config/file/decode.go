package file

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/shared/suggest"
)

// maxDepth bounds how deep values may be nested.
const maxDepth = 64

// decoder reads YAML nodes into messages by their descriptors, so that every error has a line and a string field takes
// a scalar as it is written: `version: 1.10` is "1.10", and `name: on` is "on".
type decoder struct {
	path string
	errs *Errors

	resolver *Resolver
	// at is the path in the resource that is decoded, as in Problem.Field with a dot before it.
	at string
	// environment has what the resource took from the environment, by path, as it is written.
	environment map[string]string
	// unset has the texts among them that were left as they are.
	unset map[string]unsetText
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	d.errs.add(d.path, n.Line, n.Column, fmt.Sprintf(format, args...))
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// pairs yields the entries of a mapping and reports repeated keys. Those of mappings that are merged into it (the key
// <<, https://yaml.org/type/merge.html) come after its own: what it says itself goes first, then what is merged
// first.
func (d *decoder) pairs(n *yaml.Node, each func(key, value *yaml.Node)) {
	d.merged(n, map[string]bool{}, each, 0)
}

func (d *decoder) merged(n *yaml.Node, seen map[string]bool, each func(key, value *yaml.Node), depth int) {
	if depth > 0 && d.tooDeep(n, depth) {
		return
	}
	own := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case isMerge(k):
		case k.Kind != yaml.ScalarNode:
			d.fail(k, "a key has to be a string")
		case own[k.Value]:
			d.fail(k, "%q is there twice", k.Value)
		default:
			own[k.Value] = true
			if !seen[k.Value] {
				seen[k.Value] = true
				each(k, resolve(v))
			}
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k, v := n.Content[i], n.Content[i+1]; isMerge(k) {
			d.mergeAll(v, seen, each, depth+1)
		}
	}
}

func (d *decoder) mergeAll(v *yaml.Node, seen map[string]bool, each func(key, value *yaml.Node), depth int) {
	switch v = resolve(v); v.Kind {
	case yaml.MappingNode:
		d.merged(v, seen, each, depth)
	case yaml.SequenceNode:
		for _, item := range v.Content {
			if item = resolve(item); item.Kind == yaml.MappingNode {
				d.merged(item, seen, each, depth)
			} else {
				d.fail(item, "<< has to be followed by mappings")
			}
		}
	default:
		d.fail(v, "<< has to be followed by a mapping, such as *name, or a list of them")
	}
}

// isMerge reports whether a key merges what follows into the mapping; "<<" in quotes is a key like any other.
func isMerge(k *yaml.Node) bool { return k.Kind == yaml.ScalarNode && k.Tag == "!!merge" }

func (d *decoder) tooDeep(n *yaml.Node, depth int) bool {
	if depth > maxDepth {
		d.fail(n, "is nested deeper than %d levels", maxDepth)
		return true
	}
	return false
}

func (d *decoder) message(n *yaml.Node, m protoreflect.Message, what string, depth int) {
	n = resolve(n)
	if d.tooDeep(n, depth) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s has to be a mapping of fields", what)
		return
	}
	fields := m.Descriptor().Fields()
	oneofs := map[protoreflect.Name]string{}
	d.pairs(n, func(k, v *yaml.Node) {
		f := fields.ByName(protoreflect.Name(k.Value))
		if f == nil && d.fromFile(k, v, m, oneofs) {
			return
		}
		if depth == 1 && k.Value == "environment" { // exports in JSON have it; it is made anew
			return
		}
		if f == nil {
			d.fail(k, "%s has no field %q%s", what, k.Value, suggestion(k.Value, fields))
			return
		}
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			if other := oneofs[o.Name()]; other != "" {
				d.fail(k, "%q and %q can't be together", other, k.Value)
				return
			}
			oneofs[o.Name()] = k.Value
		}
		if strings.HasSuffix(k.Value, pemSuffix) && v.Tag != "!!null" {
			if other := oneofs[f.Name()]; other != "" {
				d.fail(k, "%q and %q can't be together", other, k.Value)
				return
			}
			oneofs[f.Name()] = k.Value
		}
		if v.Tag == "!!null" {
			return
		}
		d.within("."+k.Value, func() { d.field(v, m, f, depth+1) })
	})
}

const (
	pemSuffix  = "_pem"
	fileSuffix = "_file"
)

// fromFile reads a field such as cert_file, which names a file with what cert_pem would have.
func (d *decoder) fromFile(k, v *yaml.Node, m protoreflect.Message, said map[protoreflect.Name]string) bool {
	name, ok := strings.CutSuffix(k.Value, fileSuffix)
	if !ok {
		return false
	}
	f := m.Descriptor().Fields().ByName(protoreflect.Name(name + pemSuffix))
	if f == nil || f.Kind() != protoreflect.StringKind || f.IsList() {
		return false
	}
	switch other := said[f.Name()]; {
	case other != "":
		d.fail(k, "%q and %q can't be together", other, k.Value)
	case v.Kind != yaml.ScalarNode:
		d.fail(v, "%s has to be the name of a file", k.Value)
	case v.Tag != "!!null":
		said[f.Name()] = k.Value
		path, _, err := d.resolver.expand(v.Value)
		text := ""
		if err == nil {
			text, err = d.resolver.read(path, d.path)
		}
		if err != nil {
			d.fail(v, "%s %s", k.Value, err)
			return true
		}
		m.Set(f, protoreflect.ValueOfString(text))
	}
	return true
}

func (d *decoder) field(v *yaml.Node, m protoreflect.Message, f protoreflect.FieldDescriptor, depth int) {
	switch {
	case f.IsMap():
		if v.Kind != yaml.MappingNode {
			d.fail(v, "%s has to be a mapping", f.Name())
			return
		}
		into := m.Mutable(f).Map()
		d.pairs(v, func(k, v *yaml.Node) {
			d.within("."+k.Value, func() {
				if s, ok := d.scalar(v, f.MapValue(), string(f.Name())+"."+k.Value); ok {
					into.Set(protoreflect.ValueOfString(k.Value).MapKey(), s)
				}
			})
		})
	case f.IsList():
		if v.Kind != yaml.SequenceNode {
			d.fail(v, "%s has to be a list", f.Name())
			return
		}
		into := m.Mutable(f).List()
		for i, item := range v.Content {
			item = resolve(item)
			d.within(fmt.Sprintf("[%d]", i), func() {
				if f.Kind() == protoreflect.MessageKind {
					e := into.AppendMutable().Message()
					d.message(item, e, fmt.Sprintf("%s[%d]", f.Name(), i), depth)
				} else if s, ok := d.scalar(item, f, fmt.Sprintf("%s[%d]", f.Name(), i)); ok {
					into.Append(s)
				}
			})
		}
	case f.Kind() == protoreflect.MessageKind:
		switch into := m.Mutable(f).Message(); target := into.Interface().(type) {
		case *structpb.Struct:
			d.structure(v, target, string(f.Name()), depth)
		case *timestamppb.Timestamp:
			t, err := time.Parse(time.RFC3339Nano, v.Value)
			if v.Kind != yaml.ScalarNode || err != nil {
				d.fail(v, "%s has to be a time such as 2026-01-31T12:00:00Z", f.Name())
				return
			}
			proto.Merge(target, timestamppb.New(t))
		default:
			d.message(v, into, string(f.Name()), depth)
		}
	default:
		if s, ok := d.scalar(v, f, string(f.Name())); ok {
			m.Set(f, s)
		}
	}
}

func (d *decoder) scalar(v *yaml.Node, f protoreflect.FieldDescriptor, name string) (protoreflect.Value, bool) {
	if v.Kind != yaml.ScalarNode {
		d.fail(v, "%s has to be a single value: %s", name, kindText(f.Kind()))
		return protoreflect.Value{}, false
	}
	value, ok := d.text(v, f.Kind() == protoreflect.StringKind)
	if !ok {
		return protoreflect.Value{}, false
	}
	switch f.Kind() {
	case protoreflect.StringKind:
		if v.Tag == "!!null" {
			return protoreflect.ValueOfString(""), true
		}
		return protoreflect.ValueOfString(value), true
	case protoreflect.BoolKind:
		switch value {
		case "true":
			return protoreflect.ValueOfBool(true), true
		case "false":
			return protoreflect.ValueOfBool(false), true
		}
	case protoreflect.Uint32Kind:
		if n, err := strconv.ParseUint(value, 10, 32); err == nil {
			return protoreflect.ValueOfUint32(uint32(n)), true
		}
	case protoreflect.Int32Kind:
		if n, err := strconv.ParseInt(value, 10, 32); err == nil {
			return protoreflect.ValueOfInt32(int32(n)), true
		}
	case protoreflect.Int64Kind:
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return protoreflect.ValueOfInt64(n), true
		}
	case protoreflect.DoubleKind:
		if n, err := strconv.ParseFloat(value, 64); err == nil && !math.IsNaN(n) && !math.IsInf(n, 0) {
			return protoreflect.ValueOfFloat64(n), true
		}
	}
	d.fail(v, "%s has to be %s, not %q", name, kindText(f.Kind()), shorten(v.Value))
	return protoreflect.Value{}, false
}

func shorten(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}

func kindText(k protoreflect.Kind) string {
	switch k {
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.Uint32Kind:
		return "a whole number from 0 to 4294967295"
	case protoreflect.Int32Kind:
		return "a whole number from -2147483648 to 2147483647"
	case protoreflect.Int64Kind:
		return "a whole number"
	case protoreflect.DoubleKind:
		return "a number"
	default:
		return "a value"
	}
}

// structure reads free JSON, as a middleware's config is.
func (d *decoder) structure(n *yaml.Node, into *structpb.Struct, name string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s has to be a mapping", name)
		return
	}
	into.Fields = map[string]*structpb.Value{}
	d.pairs(n, func(k, v *yaml.Node) {
		d.within("."+k.Value, func() { into.Fields[k.Value] = d.value(v, name+"."+k.Value, depth+1) })
	})
}

func (d *decoder) value(n *yaml.Node, name string, depth int) *structpb.Value {
	if d.tooDeep(n, depth) {
		return structpb.NewNullValue()
	}
	switch n.Kind {
	case yaml.MappingNode:
		s := &structpb.Struct{}
		d.structure(n, s, name, depth)
		return structpb.NewStructValue(s)
	case yaml.SequenceNode:
		list := &structpb.ListValue{}
		for i, item := range n.Content {
			d.within(fmt.Sprintf("[%d]", i), func() {
				list.Values = append(list.Values, d.value(resolve(item), fmt.Sprintf("%s[%d]", name, i), depth+1))
			})
		}
		return structpb.NewListValue(list)
	}
	switch n.Tag {
	case "!!null":
		return structpb.NewNullValue()
	case "!!bool":
		return structpb.NewBoolValue(strings.EqualFold(n.Value, "true"))
	case "!!int", "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return structpb.NewNumberValue(f)
		}
	}
	text, ok := d.text(n, true)
	if !ok {
		return structpb.NewNullValue()
	}
	if n.Style == 0 && text != n.Value && (text == "true" || text == "false") {
		// Settings take a string for a number, but not for a boolean.
		return structpb.NewBoolValue(text == "true")
	}
	return structpb.NewStringValue(text)
}

// suggestion names the field that was probably meant, or all there are.
func suggestion(name string, fields protoreflect.FieldDescriptors) string {
	all := make([]string, fields.Len())
	for i := range all {
		all[i] = string(fields.Get(i).Name())
	}
	return suggest.Clause(name, all)
}
