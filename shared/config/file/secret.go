package file

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"gateway.internal/shared/config"
)

// notShown stands for a line that may be part of a private key, or have another secret.
const notShown = "(not shown: it may be part of a private key, or have another secret)"

// maxKeyLines is how many lines the key may have whose end is missing.
const maxKeyLines = 200

var (
	beginsKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----`)
	endsKey   = regexp.MustCompile(`-----END [A-Z0-9 ]*PRIVATE KEY-----`)
	// A line of base64 as PEM has it (RFC 7468 has 64 characters a line), also where the lines that say what it is are
	// missing.
	isBase64 = regexp.MustCompile(`^[\s"',|>-]*[A-Za-z0-9+/]{40,}={0,2}(\\n)?[\s"',]*$`)
	someText = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// secrets are the lines of a file that may hold parts of private keys, wherever they are and however they are
// indented: a file that can't be read may have its keys in the wrong place; and those with values of write-only fields.
type secrets struct {
	lines   map[int]bool // from 1
	content string       // theirs, without what is around it
}

func secretsOf(text []byte) secrets {
	s := secrets{lines: map[int]bool{}}
	values := writeOnlyLines(text)
	var content strings.Builder
	inside := 0 // how many lines a key without an end may go on
	for number, line := 1, ""; len(text) > 0; number++ {
		var raw []byte
		raw, text, _ = bytes.Cut(text, []byte("\n"))
		line = string(raw)
		begin := beginsKey.FindStringIndex(line)
		switch {
		case begin != nil:
			inside = maxKeyLines
			if endsKey.MatchString(line[begin[1]:]) {
				inside = 0
			}
			line = line[begin[0]:]
		case inside > 0:
			inside--
			if endsKey.MatchString(line) {
				inside = 0
			}
		case !isBase64.MatchString(line):
			continue
		}
		s.lines[number] = true
		content.WriteString(strings.TrimSpace(line))
		content.WriteByte('\n')
	}
	for number, value := range values {
		s.lines[number] = true
		content.WriteString(value)
		content.WriteByte('\n')
	}
	s.content = content.String()
	return s
}

// writeOnlyLines returns the lines that hold the value of a field that is write-only somewhere, and those values. What
// can't be read as YAML is looked at line by line.
func writeOnlyLines(text []byte) map[int]string {
	found := map[int]string{}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var root yaml.Node
		err := dec.Decode(&root)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			for i, line := range strings.Split(string(text), "\n") {
				if m := secretMember.FindStringSubmatch(line); m != nil && config.IsWriteOnlyName(m[1]) {
					found[i+1] = strings.Trim(m[2], " \"'")
				}
			}
			return found
		}
		writeOnlyNodes(&root, "", found)
	}
}

// secretMember is a member whose value is a text.
var secretMember = regexp.MustCompile(`(?:^|[\s{,])["']?([a-z_]+)["']?\s*:\s*([^\s\[{].*)$`)

// writeOnlyNodes looks for them in a document. in is the member that a node is below: a name such as key is one of a
// secret among credentials and in the config of middleware alone.
func writeOnlyNodes(n *yaml.Node, in string, found map[int]string) {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		below := in
		if name == "credentials" || name == "config" {
			below = name
		}
		if value.Kind == yaml.ScalarNode && below != "" && config.IsWriteOnlyName(name) {
			for at := range strings.Count(strings.TrimSpace(value.Value), "\n") + 1 {
				found[value.Line+at] = value.Value
			}
			if value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
				found[value.Line+strings.Count(strings.TrimSpace(value.Value), "\n")+1] = value.Value
			}
		}
		writeOnlyNodes(value, below, found)
	}
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			writeOnlyNodes(c, in, found)
		}
	}
}

// shortestPart is how many bytes a text has to have to be taken for a part of a key.
const shortestPart = 8

// hide takes what is quoted in a message and part of a key out of it.
func (s secrets) hide(message string) string {
	if s.content == "" {
		return message
	}
	return someText.ReplaceAllStringFunc(message, func(quoted string) string {
		text, err := strconv.Unquote(quoted)
		if err != nil {
			text = strings.Trim(quoted, `"`)
		}
		isSpace := func(r rune) bool { return r == '\n' || r == ' ' }
		for part := range strings.FieldsFuncSeq(strings.TrimSuffix(text, "..."), isSpace) {
			if len(part) >= shortestPart && strings.Contains(s.content, part) {
				return `"(not shown)"`
			}
		}
		return quoted
	})
}

// Source is a file's text as it may be shown. It is not safe for concurrent use.
type Source struct {
	text    []byte
	secrets *secrets // found when they are asked for
}

// NewSource returns the source of a file.
func NewSource(text []byte) *Source { return &Source{text: text} }

func (s *Source) known() *secrets {
	if s.secrets == nil {
		found := secretsOf(s.text)
		s.secrets = &found
	}
	return s.secrets
}

// Line returns a line, from 1, without its end. ok is false, and the text says why, where the line may have a secret.
func (s *Source) Line(n int) (shown string, ok bool) {
	if s.known().lines[n] {
		return notShown, false
	}
	return lineOf(s.text, n), true
}

// Hide takes parts of private keys, and other secrets, out of a message that quotes the file.
func (s *Source) Hide(message string) string { return s.known().hide(message) }
