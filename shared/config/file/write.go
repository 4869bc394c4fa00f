package file

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/terminal"
)

// Declarative returns a configuration as files hold it: by name, references as names, without what the server gives,
// without keys and what was obtained by ACME, without what comes and goes by itself; with the text of files for what
// they took from the environment.
func Declarative(c *config.Config) *configv1.Configuration {
	out := &configv1.Configuration{}
	for m := range All(c) {
		Add(out, m)
	}
	return out
}

// All yields the resources of Declarative, one after the other, by kind and name.
func All(c *config.Config) iter.Seq[config.Message] {
	return func(yield func(config.Message) bool) {
		for _, k := range config.Kinds() {
			for m := range OfKind(c, k) {
				if !yield(m) {
					return
				}
			}
		}
	}
}

// OfKind is All of one kind.
func OfKind(c *config.Config, k config.Kind) iter.Seq[config.Message] {
	return func(yield func(config.Message) bool) {
		for _, e := range c.Sorted(k) {
			if config.IsTransient(e.Message) {
				continue
			}
			m := proto.CloneOf(config.Redacted(e.Message))
			Names(c, m)
			desired(m)
			if !yield(m) {
				return
			}
		}
	}
}

// Of returns resources as files hold them, in their order, without what Declarative leaves out. It takes the messages
// over and changes them.
func Of(list []config.Message) *configv1.Configuration {
	out := &configv1.Configuration{}
	for _, m := range list {
		desired(m)
		Add(out, m)
	}
	return out
}

// desired clears what nobody can desire: what the server gives, keys, and what was obtained by ACME.
func desired(m config.Message) {
	config.ClearGiven(m)
	config.ClearWriteOnly(m)
	if m, ok := m.(*configv1.Certificate); ok && m.GetAcme() != nil {
		m.CertPem = ""
	}
}

// Add puts a resource at the end of its kind's list.
func Add(c *configv1.Configuration, m config.Message) {
	r := c.ProtoReflect()
	r.Mutable(listOf(config.KindOfMessage(m))).List().Append(protoreflect.ValueOfMessage(m.ProtoReflect()))
}

// Names makes names of the ids in a resource's references, where c has what they name.
func Names(c *config.Config, m config.Message) {
	config.EachReference(m, func(k config.Kind, ref *string) {
		if e := c.ByID(k, *ref); e != nil {
			*ref = e.Name()
		}
	})
}

// Marshal writes YAML that Load reads back to the same: fields in the order of their numbers, what is absent left out.
func Marshal(c *configv1.Configuration) ([]byte, error) {
	return encode(messageNode(asWritten(c).ProtoReflect()), false)
}

// asWritten returns a configuration with texts as a file has them: what looks like a variable of the environment and
// is none is protected, and environment is left out, since texts that are shown say it.
func asWritten(c *configv1.Configuration) *configv1.Configuration {
	isOdd := false
	for _, k := range config.Kinds() {
		for _, m := range Resources(c, k) {
			config.EveryText(m, func(_, value string) string {
				isOdd = isOdd || strings.Contains(value, refersToEnv)
				return value
			})
		}
	}
	if !isOdd {
		return c
	}
	c = proto.CloneOf(c)
	for _, k := range config.Kinds() {
		for _, m := range Resources(c, k) {
			config.EveryText(m, func(path, value string) string {
				if text, ok := m.GetEnvironment()[path]; ok {
					return text
				}
				return protect(value)
			})
			r := m.ProtoReflect()
			r.Clear(r.Descriptor().Fields().ByName("environment"))
		}
	}
	return c
}

// FromJSON writes any JSON as YAML, keys sorted.
func FromJSON(text []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("write as YAML: %w", err)
	}
	return encode(valueNode(v), true)
}

func encode(root *yaml.Node, compact bool) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if compact {
		enc.CompactSeqIndent()
	}
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return escaped(out.Bytes()), nil
}

// escaped writes escapes for what the encoder lets through although terminals obey it. All of it is in double quotes.
func escaped(text []byte) []byte {
	left := func(r rune) bool { return r > utf8.RuneSelf && terminal.Obeys(r) }
	if !bytes.ContainsFunc(text, left) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if left(r) {
			fmt.Fprintf(&b, `\u%04X`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

func messageNode(m protoreflect.Message) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if m.Has(f) {
			n.Content = append(n.Content, stringNode(string(f.Name())), fieldNode(m.Get(f), f))
		}
	}
	return n
}

func fieldNode(v protoreflect.Value, f protoreflect.FieldDescriptor) *yaml.Node {
	switch {
	case f.IsMap():
		b, err := json.Marshal(stringMap(v.Map()))
		return jsonNode(b, err)
	case f.IsList():
		n := &yaml.Node{Kind: yaml.SequenceNode}
		list := v.List()
		for i := range list.Len() {
			n.Content = append(n.Content, singleNode(list.Get(i), f))
		}
		if f.Kind() != protoreflect.MessageKind {
			n.Style = yaml.FlowStyle
		}
		return n
	default:
		return singleNode(v, f)
	}
}

func stringMap(m protoreflect.Map) map[string]string {
	out := map[string]string{}
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		out[k.String()] = v.String()
		return true
	})
	return out
}

func singleNode(v protoreflect.Value, f protoreflect.FieldDescriptor) *yaml.Node {
	switch f.Kind() {
	case protoreflect.MessageKind:
		switch m := v.Message().Interface().(type) {
		case *structpb.Struct:
			b, err := protojson.Marshal(m)
			return jsonNode(b, err)
		case *timestamppb.Timestamp:
			return stringNode(m.AsTime().Format("2006-01-02T15:04:05.999999999Z07:00"))
		}
		return messageNode(v.Message())
	case protoreflect.StringKind:
		return stringNode(v.String())
	case protoreflect.BoolKind:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: fmt.Sprint(v.Interface())}
	}
}

// stringNode writes a text so that every reader takes it for one, those of YAML 1.1 too, which know more booleans and
// numbers, and terminals show what is there.
func stringNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	n.Style = styleOf(s)
	return n
}

// styleOf returns how a text is written: as a block where it has several lines that a block keeps as they are, else
// plain or quoted.
func styleOf(s string) yaml.Style {
	odd := func(r rune) bool { return r != '\n' && terminal.Obeys(r) }
	switch {
	case strings.ContainsFunc(s, odd):
		return yaml.DoubleQuotedStyle
	case strings.Contains(s, "\n"):
		// Of white space at the start of a block's first line its indentation is made, which tabs can't be; at the end of
		// lines people and editors lose it.
		blank := func(r rune) bool { return r == ' ' || r == '\n' }
		first, _ := utf8.DecodeRuneInString(s)
		if blank(first) || strings.Contains(s, " \n") || blank(rune(s[len(s)-1])) && strings.HasSuffix(s, "\n\n") {
			return yaml.DoubleQuotedStyle
		}
		return yaml.LiteralStyle
	case isAnotherType(s):
		return yaml.DoubleQuotedStyle
	}
	return 0
}

// otherTypes are what plain texts are to readers of YAML 1.1 (https://yaml.org/type/): no text.
var otherTypes = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null|~|<<|=|[-+]?\.(inf|nan))$`)

// numeric are integers, floats, numbers to the base of 60 and times.
var numeric = regexp.MustCompile(`^(?:[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?` +
	`|(?:[0-9][0-9_,]*(?:\.[0-9_]*)?|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?)|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?)$`)

func isAnotherType(s string) bool {
	return s == "" || otherTypes.MatchString(s) || numeric.MatchString(s)
}

// jsonNode makes a node of JSON, keys sorted.
func jsonNode(b []byte, err error) *yaml.Node {
	var v any
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		err = dec.Decode(&v)
	}
	if err != nil {
		return stringNode("")
	}
	return valueNode(v)
}

func valueNode(v any) *yaml.Node {
	switch v := v.(type) {
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			n.Content = append(n.Content, stringNode(k), valueNode(v[k]))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			n.Content = append(n.Content, valueNode(item))
		}
		return n
	case string:
		return stringNode(v)
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}
	case json.Number:
		return numberNode(v)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
}

// numberNode writes a number so that readers of YAML 1.1 know it: with a point before an exponent, and a sign in it.
func numberNode(v json.Number) *yaml.Node {
	mantissa, exponent, isFloat := strings.Cut(strings.ToLower(v.String()), "e")
	if !isFloat {
		tag := "!!int"
		if strings.Contains(mantissa, ".") {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: mantissa}
	}
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	if !strings.HasPrefix(exponent, "-") && !strings.HasPrefix(exponent, "+") {
		exponent = "+" + exponent
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: mantissa + "e" + exponent}
}
